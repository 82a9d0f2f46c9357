"""ViCC's own knobs (Toering et al., WACV 2022). Torch-free. Defaults are the published ones."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class ViCCConfig:
    name: Literal["vicc"] = "vicc"
    main_stream: Literal["rgb", "flow"] | None = knob(
        None, doc="cross-stream: the stream that is optimised while the other one is frozen; null: single-stream"
    )
    proj_dim: int = knob(128, doc="size of an embedding", at_least=1)
    num_prototypes: int = knob(300, doc="prototypes", at_least=2)
    temperature: float = knob(0.1, doc="divisor of the scores in the prediction", above=0)
    epsilon: float = knob(0.05, doc="divisor of the scores in the assignment (Sinkhorn)", above=0)
    sinkhorn_iterations: int = knob(3, doc="Sinkhorn iterations", at_least=1)
    views_for_assign: tuple[int, ...] | None = knob(
        None, doc="views whose assignments are predicted; null: all of them"
    )
    queue_len: int = knob(1920, doc="embeddings kept per assigning view over all ranks; 0: no queue", at_least=0)
    queue_start_epoch: int = knob(200, doc="epoch at which the queue appears", at_least=0)
    freeze_prototypes_epochs: int = knob(100, doc="epochs during which the prototypes are not updated", at_least=0)
    bn: Literal["shuffle", "local", "sync"] = knob("shuffle", doc="batch normalisation over ranks")
    bn_group_size: int | None = knob(
        48,
        doc="clips per normalisation group in shuffle and local mode (the original's batch per GPU); null in sync mode",
        at_least=1,
    )
    second_view_grad: bool = knob(False, doc="gradient through the second clip too (False: as every published script)")

    def __post_init__(self) -> None:
        if (self.bn == "sync") != (self.bn_group_size is None):
            raise ValueError(
                f"bn is {self.bn} and bn_group_size is {self.bn_group_size}; bn_group_size is a number for bn=shuffle "
                "and bn=local, and null for bn=sync"
            )
