"""How pretraining is watched: the class of test videos by their nearest training videos. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class KNNMonitorConfig:
    """A vote of nearest neighbours, every so many epochs; it changes nothing of what is learned."""

    every_epochs: int = knob(20, doc="epochs from one look to the next; there is one before the first, too", at_least=1)
    test_split: str = knob("test", doc="split whose classes are guessed from those of data.train_split")
    features: Literal["backbone", "projector"] = knob(
        "backbone",
        doc="what neighbours are near in: the backbone's features, or the projector's embeddings as in FGKVMem's code",
        since="0.2",
        neutral="backbone",
    )
    k: int = knob(200, doc="neighbours that vote", at_least=1)
    temperature: float = knob(0.5, doc="divisor of the cosine in a vote's weight, exp(cosine / temperature)", above=0)
    batch_size: int = knob(32, doc="clips per forward", at_least=1)
