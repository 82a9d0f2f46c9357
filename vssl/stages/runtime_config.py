"""How a stage uses the machine. Only precision and determinism can change a result, so only they are semantic."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    amp: Literal["off", "bf16", "fp16"] = knob("off", doc="autocast precision of the networks; losses stay in float32")
    deterministic: bool = knob(True, doc="bit-equal resume; slower convolutions on a GPU")
    device: Literal["auto", "cpu", "cuda"] = knob("auto", doc="auto: cuda where there is one", semantic=False)
    threads: int = knob(2, doc="intra-op threads of a rank on CPU", semantic=False)
    workers: int = knob(0, doc="loader processes of a rank", semantic=False)
    prefetch: int = knob(2, doc="batches prepared ahead by each loader process", semantic=False)
    save_every_min: float = knob(10.0, doc="minutes between checkpoints", semantic=False)
    save_every_steps: int = knob(0, doc="steps between checkpoints; 0: by time alone", semantic=False)
    log_every: int = knob(1, doc="steps between journal rows", semantic=False)
    channels_last: bool = knob(False, doc="channels_last_3d memory format", semantic=False)

    def __post_init__(self) -> None:
        if self.threads < 1 or self.workers < 0 or self.prefetch < 1 or self.log_every < 1:
            raise ValueError("threads, prefetch and log_every are at least 1, workers at least 0")
