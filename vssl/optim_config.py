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
class _OptimiserConfig:
    """What goes with every optimiser."""

    lr_of_batch: int | None = knob(
        None,
        doc="base_lr is for a batch of so many videos, as 256, and scaled with global_batch_size; null: it is the rate",
        at_least=1,
        since="0.2",
        neutral=None,
    )
    clip_norm: float | None = knob(
        None,
        doc="longest gradient of an update; published for STS on videos: 40, for CARL: 10; null: any",
        above=0,
        since="0.2",
        neutral=None,
    )
    clip_by: Literal["all", "tensor"] = knob(
        "all",
        doc="whose length that is: of all parameters together, or of each by itself, as VideoTransformer-pytorch",
        since="0.2",
        neutral="all",
    )


@dataclass(frozen=True, kw_only=True)
class SGDConfig(_OptimiserConfig):
    name: Literal["sgd"] = knob("sgd", doc="which optimiser", implied=True)
    base_lr: float = knob(0.6, doc="peak learning rate", at_least=0)
    momentum: float = knob(0.9, doc="momentum", at_least=0, at_most=1)
    weight_decay: float = knob(1e-6, doc="weight decay", at_least=0)
    larc: LARCConfig | None = knob(None, doc="LARC around the update; null: plain SGD")
    nesterov: bool = knob(False, doc="the momentum looks one step ahead", since="0.2", neutral=False)
    decay_1d: bool = knob(
        True,
        doc="weight decay, and LARC, of 1-D tensors too (biases, normalisation layers); with larc, false is LARS",
        since="0.2",
        neutral=True,
    )

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "nesterov is true and momentum is 0; give a momentum such as 0.9, or set nesterov to false"
            )


@dataclass(frozen=True, kw_only=True)
class LAMBConfig(_OptimiserConfig):
    """Adam whose steps are as long as tensors are large (You et al. 2020). Biases and norms: neither decay nor that."""

    name: Literal["lamb"] = "lamb"
    base_lr: float = knob(0.005, doc="peak learning rate", at_least=0)
    betas: tuple[float, float] = knob((0.9, 0.999), doc="decay of both running means", at_least=0, at_most=1)
    eps: float = knob(1e-6, doc="added to the denominator", above=0)
    weight_decay: float = knob(0.02, doc="weight decay of tensors of two dimensions and more", at_least=0)
    clip_norm: float | None = knob(1.0, doc="longest gradient of an update; null: any", above=0)


@dataclass(frozen=True, kw_only=True)
class AdamConfig(_OptimiserConfig):
    """Adam (Kingma and Ba 2015); weight decay is added to the gradient, of every tensor."""

    name: Literal["adam"] = "adam"
    base_lr: float = knob(1e-4, doc="peak learning rate", at_least=0)
    betas: tuple[float, float] = knob((0.9, 0.999), doc="decay of the means of gradients and squares", at_least=0)
    weight_decay: float = knob(1e-5, doc="weight decay", at_least=0)


@dataclass(frozen=True, kw_only=True)
class AdamWConfig(_OptimiserConfig):
    """Adam with weight decay of its own (Loshchilov and Hutter, arXiv:1711.05101), as transformers are trained."""

    name: Literal["adamw"] = "adamw"
    base_lr: float = knob(8e-4, doc="peak learning rate", at_least=0)
    betas: tuple[float, float] = knob((0.9, 0.999), doc="decay of both running means", at_least=0, at_most=1)
    eps: float = knob(1e-8, doc="added to the denominator", above=0)
    weight_decay: float = knob(0.05, doc="weight decay", at_least=0)
    weight_decay_end: float | None = knob(
        None,
        doc="weight decay that half a cosine leads to, one value an epoch; null: constant. In VideoTransformer-pytorch "
        "it is 0.05 unless said, so that a smaller decay rises to that",
        at_least=0,
    )
    decay_1d: bool = knob(
        False, doc="weight decay of 1-D tensors (biases, normalisation), class and mask tokens and positions, too"
    )


OptimConfig = SGDConfig | LAMBConfig | AdamConfig | AdamWConfig


def peak_rate(config: OptimConfig, global_batch_size: int) -> float:
    """The learning rate that a schedule works down from."""
    if config.lr_of_batch is None:
        return config.base_lr
    return config.base_lr * global_batch_size / config.lr_of_batch


@dataclass(frozen=True, kw_only=True)
class CosineConfig:
    """Linear warm-up to base_lr, then half a cosine down to final_lr; per step."""

    name: Literal["cosine"] = "cosine"
    final_lr: float = knob(0.0006, doc="learning rate at the end of the schedule", at_least=0)
    warmup_epochs: int = knob(0, doc="epochs of linear warm-up", at_least=0)
    warmup_start_lr: float = knob(0.0, doc="learning rate at step 0 of the warm-up", at_least=0)


@dataclass(frozen=True, kw_only=True)
class JoinedCosineConfig:
    """Half a cosine over the whole schedule; during the warm-up, a line that joins it at its last point. Per step.

    Source: FGKVMem (Li et al., ACM Multimedia 2023) and PySlowFast, of which it is a fork.
    """

    name: Literal["joined_cosine"] = "joined_cosine"
    final_lr: float = knob(0.0, doc="learning rate at the end of the schedule", at_least=0)
    warmup_epochs: float = knob(0.0, doc="epochs of linear warm-up", at_least=0)
    warmup_start_lr: float = knob(0.001, doc="learning rate at step 0 of the warm-up", at_least=0)
    cosine_after_warmup: bool = knob(
        False, doc="the cosine begins, at base_lr, where the warm-up ends; else at step 0, and is joined on its way"
    )


@dataclass(frozen=True, kw_only=True)
class EpochCosineConfig:
    """Half a cosine over the schedule, one value an epoch; during the warm-up times a factor that rises every step.

    Source: fine-tuning in STS (Li et al., ECCV 2022) and mmcv, on which its public code stands.
    """

    name: Literal["epoch_cosine"] = "epoch_cosine"
    final_lr: float = knob(0.0, doc="learning rate at the end of the schedule", at_least=0)
    warmup_epochs: int = knob(5, doc="epochs of warm-up", at_least=0)
    warmup_ratio: float = knob(0.1, doc="factor at the first step; 1 where the warm-up ends", at_least=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class WarmEpochCosineConfig:
    """A line up to base_lr, then half a cosine that began at epoch 0; both one value an epoch.

    Source: pre-training on images in STS (Li et al., ECCV 2022) and timm, on which its public code stands.
    """

    name: Literal["warm_epoch_cosine"] = "warm_epoch_cosine"
    final_lr: float = knob(1e-6, doc="learning rate at the end of the schedule", at_least=0)
    warmup_epochs: int = knob(5, doc="epochs of linear warm-up", at_least=0)
    warmup_start_lr: float = knob(5e-6, doc="learning rate of the first epoch", at_least=0)


@dataclass(frozen=True, kw_only=True)
class OpenCosineConfig:
    """Half a cosine, one value an epoch, that would reach final_lr one epoch after the schedule: CARL."""

    name: Literal["open_cosine"] = "open_cosine"
    final_lr: float = knob(0.0, doc="learning rate that it falls towards", at_least=0)
    warmup_epochs: int = knob(0, doc="epochs of a line from warmup_start_lr to base_lr, both included", at_least=0)
    warmup_start_lr: float = knob(0.0, doc="learning rate of the first epoch of the warm-up", at_least=0)


@dataclass(frozen=True, kw_only=True)
class EpochEndCosineConfig:
    """A line up to base_lr, then half a cosine; each epoch has the value of its end, so the last one has final_lr.

    Source: VideoTransformer-pytorch, whose MaskFeat ends at 0: its last epoch learns nothing.
    """

    name: Literal["epoch_end_cosine"] = "epoch_end_cosine"
    final_lr: float = knob(1e-6, doc="learning rate of the last epoch", at_least=0)
    warmup_epochs: int = knob(5, doc="epochs of linear warm-up; the first one has its share of base_lr", at_least=0)


@dataclass(frozen=True, kw_only=True)
class MilestonesConfig:
    """base_lr times gamma for each milestone passed; per epoch."""

    name: Literal["milestones"] = "milestones"
    milestones: tuple[int, ...] = knob((60, 80), doc="epochs at which the rate drops", at_least=0)
    gamma: float = knob(0.1, doc="factor at each milestone", above=0)


ScheduleConfig = (
    CosineConfig
    | JoinedCosineConfig
    | EpochCosineConfig
    | WarmEpochCosineConfig
    | OpenCosineConfig
    | EpochEndCosineConfig
    | MilestonesConfig
)


def refuse_endless_warmup(schedule: ScheduleConfig, epochs: int) -> None:
    """
    Raises:
        ValueError: the schedule is over before its warm-up is.
    """
    if not isinstance(schedule, MilestonesConfig) and schedule.warmup_epochs >= epochs:
        raise ValueError(
            f"schedule.warmup_epochs is {schedule.warmup_epochs:g} of a schedule of {epochs} epochs; leave at least "
            f"one epoch after it: at most {epochs - 1}"
        )
