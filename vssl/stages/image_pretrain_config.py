"""Config of pre-training on images. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.backbones.backbone_config import BackboneConfig, refuse_other_clips, refuse_undroppable
from vssl.backbones.sts_backbones_config import CSN50Config, R2Plus1D34Config, STSBackboneConfig
from vssl.config import knob, nested, refuse_remainder
from vssl.data.dataset_config import EvaluationClipsConfig
from vssl.data.views.augment_config import RandomResizedCropAugmentConfig
from vssl.data.views.rand_augment_config import RandAugmentConfig
from vssl.nn.mixup_config import MixupConfig, refuse_odd_batch
from vssl.optim_config import LAMBConfig, ScheduleConfig, SGDConfig, WarmEpochCosineConfig, refuse_endless_warmup
from vssl.stages.runtime_config import RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class ImagePretrainConfig:
    """A whole video network learns the classes of images, each a clip of one frame: STS (arXiv:2205.01721).

    Defaults are the recipe A2 of "ResNet strikes back" (arXiv:2110.00476) as STS has it.
    """

    seed: int = knob(0, doc="of initial weights, sample order, augmentations, mixes, dropped paths")
    epochs: int = knob(300, doc="epochs to train; the last one is tested", at_least=1)
    global_batch_size: int = knob(2048, doc="images per step over all ranks", at_least=2)
    repeats: int = knob(
        3, doc="how often an image comes in an epoch that shows it; the epoch shows one image in so many", at_least=1
    )
    mixup: MixupConfig | None = knob(
        MixupConfig(mixup_alpha=0.1), doc="mixup and cutmix of training batches; null: none"
    )
    loss: Literal["binary", "softmax"] = knob(
        "binary", doc="binary: each class is a question of its own; softmax: one is chosen"
    )
    label_smoothing: float = knob(
        0.0, doc="share of a training label that is spread evenly over all classes", at_least=0, at_most=1
    )
    drop_path: float = knob(0.05, doc="stochastic depth of the last block; it grows from none", at_least=0, at_most=0.9)
    drop_path_on: Literal["branch", "shortcut"] = knob(
        "branch",
        doc="branch: as it is meant; shortcut: as in the public code, which drops the inputs of three shortcuts, and "
        "of SlowFast and X3D nothing",
    )
    ema_decay: float | None = knob(
        None,
        doc="per step, of a moving average of the network, which is what is tested and handed on; null: none",
        above=0,
        at_most=1,
    )
    compat_frozen_stem: bool = knob(
        False, doc="the stem of R(2+1)D stays as it was drawn, as in the public code by oversight"
    )
    bn_group_size: int | None = knob(
        256, doc="images per normalisation group (the original's batch per GPU); null: the global batch", at_least=1
    )
    backbone: BackboneConfig = nested(CSN50Config, doc="the network that learns")
    data: EvaluationClipsConfig = knob(doc="images")
    augment: RandomResizedCropAugmentConfig = knob(
        RandomResizedCropAugmentConfig(jitter_probability=0.0, rand_augment=RandAugmentConfig()), doc="training views"
    )
    test_shares: tuple[float, ...] = knob(
        (0.875, 0.95),
        doc="share of the short side that the test's central square covers; of several the last one is the result. "
        "The public code trains by 0.95 and evaluates by 0.875",
        above=0,
        at_most=1,
    )
    optim: LAMBConfig | SGDConfig = nested(LAMBConfig, doc="optimiser")
    schedule: ScheduleConfig = nested(WarmEpochCosineConfig, doc="learning rate over training")
    runtime: RuntimeConfig = nested(RuntimeConfig, doc="precision, loading, checkpoints")

    def __post_init__(self) -> None:
        if self.data.num_frames != 1 or self.data.modality != "rgb":
            raise ValueError(
                f"data.num_frames is {self.data.num_frames} and data.modality is {self.data.modality}; an image is a "
                "clip of one frame: set num_frames to 1, modality to rgb, and data.sampling.name to segments"
            )
        if isinstance(self.backbone, STSBackboneConfig) and self.backbone.sts:
            raise ValueError(
                "backbone.sts is true, which reads a frame with the outer taps of temporal kernels; images must leave "
                "those untrained: set it to false here, and to true in the fine-tuning that takes these weights"
            )
        if self.compat_frozen_stem and not isinstance(self.backbone, R2Plus1D34Config):
            raise ValueError(
                f"compat_frozen_stem is true and backbone.name is {self.backbone.name}; the public code freezes the "
                "stem of r2plus1d34 alone: set it to false"
            )
        if not self.test_shares:
            raise ValueError("test_shares is empty; give at least one, such as [0.95]")
        refuse_remainder("global_batch_size", self.global_batch_size, "bn_group_size", self.bn_group_size)
        refuse_odd_batch(self.mixup, self.global_batch_size)
        refuse_endless_warmup(self.schedule, self.epochs)
        refuse_other_clips(self.backbone, num_frames=1, sides=(self.data.crop_size,))
        refuse_undroppable(self.drop_path, self.backbone)

    def reads(self) -> frozenset[str]:
        return frozenset({"dataset"})
