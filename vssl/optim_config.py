"""The optimiser and how its learning rate moves. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class LARCConfig:
    """Layer-wise adaptive rate control around SGD, scaling mode (You et al. 2017; apex's rule)."""

    trust: float = knob(0.001, doc="trust coefficient", above=0)
    eps: float = knob(1e-8, doc="added to the denominator", at_least=0)


@dataclass(frozen=True, kw_only=True)
class SGDConfig:
    name: Literal["sgd"] = "sgd"
    base_lr: float = knob(0.6, doc="peak learning rate; not scaled with the batch", at_least=0)
    momentum: float = knob(0.9, doc="momentum", at_least=0, at_most=1)
    weight_decay: float = knob(1e-6, doc="weight decay", at_least=0)
    larc: LARCConfig | None = knob(None, doc="LARC around the update; null: plain SGD")


@dataclass(frozen=True, kw_only=True)
class CosineConfig:
    """Linear warm-up to base_lr, then half a cosine down to final_lr; per step."""

    name: Literal["cosine"] = "cosine"
    final_lr: float = knob(0.0006, doc="learning rate at the end of the schedule", at_least=0)
    warmup_epochs: int = knob(0, doc="epochs of linear warm-up", at_least=0)
    warmup_start_lr: float = knob(0.0, doc="learning rate at step 0 of the warm-up", at_least=0)


@dataclass(frozen=True, kw_only=True)
class MilestonesConfig:
    """base_lr times gamma for each milestone passed; per epoch."""

    name: Literal["milestones"] = "milestones"
    milestones: tuple[int, ...] = knob((60, 80), doc="epochs at which the rate drops", at_least=0)
    gamma: float = knob(0.1, doc="factor at each milestone", above=0)
