"""Config of end-to-end fine-tuning. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.backbones.backbone_config import (
    TRANSFORMERS,
    BackboneConfig,
    S3DConfig,
    refuse_other_clips,
    refuse_undroppable,
)
from vssl.backbones.image_init_config import ImageInitConfig
from vssl.backbones.sts_backbones_config import STSBackboneConfig
from vssl.config import ConfigError, knob, nested, refuse_remainder
from vssl.data.dataset_config import EvaluationClipsConfig
from vssl.data.views.augment_config import (
    ClassifyAugmentConfig,
    ShortSideAugmentConfig,
    TestViewConfig,
    TrainAugmentConfig,
    refuse_small_sides,
)
from vssl.nn.mixup_config import MixupConfig, refuse_odd_batch
from vssl.optim_config import MilestonesConfig, OptimConfig, ScheduleConfig, SGDConfig, refuse_endless_warmup
from vssl.stages.crops_config import TestCrops, refuse_crops_of_crops
from vssl.stages.runtime_config import RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """A classifier and the backbone under it, trained together, as in ViCC (arXiv:2106.10137)."""

    seed: int = knob(0, doc="of the head, sample order, augmentations, dropout, and of an untrained backbone")
    epochs: int = knob(500, doc="epochs to train; the last one is tested", at_least=1)
    global_batch_size: int = knob(128, doc="videos per step over all ranks", at_least=2)
    dropout: float = knob(0.9, doc="of pooled features", at_least=0, at_most=0.999)
    head_std: float = knob(
        0.01,
        doc="deviation of the classifier's first weights; published for TimeSformer, ViViT and MaskFeat: 0.02",
        above=0,
        since="0.2",
        neutral=0.01,
    )
    mixup: MixupConfig | None = knob(
        None, doc="mixup and cutmix of training batches; null: none", since="0.2", neutral=None
    )
    label_smoothing: float = knob(
        0.0,
        doc="share of a training label that is spread evenly over all classes",
        at_least=0,
        at_most=1,
        since="0.2",
        neutral=0.0,
    )
    precise_bn_batches: int = knob(
        0,
        doc="before the test, statistics of batch normalisation are averaged over so many training batches that are "
        "not mixed, at most an epoch of them; published for FGKVMem, and for STS on Kinetics-400 but for CSN: 200; 0: "
        "running ones as training left them",
        at_least=0,
        since="0.2",
        neutral=0,
    )
    taps: Literal["keep", "spread"] = knob(
        "keep",
        doc="temporal kernels of 3 frames of the bound weights: as they are; spread: a ninth, a third, a ninth of the "
        "middle tap, as STS's public code starts SlowOnly on Something-Something V2; refused without weights",
        since="0.2",
        neutral="keep",
    )
    zero_init_residual: bool = knob(
        False,
        doc="residual branches add nothing at first, in a backbone of STS without bound weights, with which it is "
        "refused; published for SlowOnly, SlowFast and X3D from scratch",
        since="0.2",
        neutral=False,
    )
    backbone_lr_ratio: float = knob(
        1.0, doc="the backbone learns at optim.base_lr divided by this; published: 1 (documented command: 10)", above=0
    )
    bn: Literal["local", "sync"] = knob("local", doc="batch normalisation over ranks")
    bn_group_size: int | None = knob(
        32, doc="clips per normalisation group (the original's batch per GPU); null in sync mode", at_least=1
    )
    compat_batch_flip: bool = knob(
        False, doc="one coin mirrors a whole batch, as in ViCC's public code; else per video"
    )
    layer_decay: float = knob(
        1.0,
        doc="of a transformer, a layer learns at so much of the rate of the one above it, patches and tables slowest",
        above=0,
        at_most=1,
        since="0.2",
        neutral=1.0,
    )
    drop_path: float = knob(
        0.0,
        doc="probability that a sample goes without the last block's branches, of a transformer or a backbone of STS; "
        "it rises with depth",
        at_least=0,
        at_most=0.999,
        since="0.2",
        neutral=0.0,
    )
    image_init: ImageInitConfig = knob(
        ImageInitConfig(),
        doc="how a video transformer starts from weights of an image transformer",
        since="0.2",
        neutral=ImageInitConfig(),
    )
    backbone: BackboneConfig = nested(S3DConfig, doc="must be the backbone that made the weights")
    data: EvaluationClipsConfig = knob(doc="videos and clips")
    augment: TrainAugmentConfig = nested(ClassifyAugmentConfig, doc="training views")
    test_view: TestViewConfig = nested(TestViewConfig, doc="test views")
    test_crops: TestCrops = knob("centre", doc="centre; five: with the corners; ten: and all of it mirrored")
    validate_every_epochs: int = knob(
        0,
        doc="epochs from one look at the test split to the next, for the curves val/top1, val/top5 and val/loss; "
        "nothing is chosen by them. 0: it is tested after the last epoch alone",
        semantic=False,
        at_least=0,
    )
    optim: OptimConfig = nested(SGDConfig, doc="optimiser")
    schedule: ScheduleConfig = nested(MilestonesConfig, doc="learning rate over training")
    runtime: RuntimeConfig = nested(RuntimeConfig, doc="precision, loading, checkpoints")

    def __post_init__(self) -> None:
        if self.data.modality == "both":
            raise ValueError(
                "data.modality is both, and a classifier reads one stream; accepted: rgb, flow (fusion joins the two)"
            )
        if (self.bn == "sync") != (self.bn_group_size is None):
            raise ValueError(
                f"bn is {self.bn} and bn_group_size is {self.bn_group_size}; bn_group_size is a number for bn=local, "
                "and null for bn=sync"
            )
        refuse_remainder("global_batch_size", self.global_batch_size, "bn_group_size", self.bn_group_size)
        refuse_odd_batch(self.mixup, self.global_batch_size)
        if isinstance(self.augment, ShortSideAugmentConfig):
            refuse_small_sides("augment.short_side", self.augment.short_side, self.data.crop_size)
        refuse_small_sides("test_view.legacy_views", self.test_view.legacy_views, self.data.crop_size)
        if self.data.num_frames == 1 and isinstance(self.backbone, STSBackboneConfig) and self.backbone.sts:
            raise ValueError(
                "data.num_frames is 1 and backbone.sts is true; on single images the outer taps of temporal kernels "
                "must stay untrained: set backbone.sts to false, or take clips"
            )
        refuse_endless_warmup(self.schedule, self.epochs)
        refuse_crops_of_crops(self.test_crops, self.test_view)
        if self.layer_decay != 1 and not isinstance(self.backbone, TRANSFORMERS):
            raise ValueError(
                f"layer_decay is {self.layer_decay} and backbone.name is {self.backbone.name}, without layers; set "
                "layer_decay to 1, or take a transformer: timesformer, vivit, mvit_b"
            )
        refuse_undroppable(self.drop_path, self.backbone)
        if self.zero_init_residual and not isinstance(self.backbone, STSBackboneConfig):
            raise ValueError(
                f"zero_init_residual is true and backbone.name is {self.backbone.name}, which does not say where its "
                "residual branches end; set it to false, or take a backbone of STS"
            )
        sides = (self.data.crop_size, self.test_view.crop_size)
        refuse_other_clips(self.backbone, num_frames=self.data.num_frames, sides=sides)

    def reads(self) -> frozenset[str]:
        return frozenset({"dataset", "weights"} | ({"motion"} if self.data.modality == "flow" else set()))

    def refuse_inputs(self, bound: frozenset[str]) -> None:
        """
        Raises:
            ConfigError: what weights begin with is to change and none are bound, or the other way round.
        """
        if self.taps == "spread" and "weights" not in bound:
            raise ConfigError(
                "taps is spread and no weights are bound that have any; bind some to `weights`, or set taps to keep"
            )
        if self.zero_init_residual and "weights" in bound:
            raise ConfigError(
                "zero_init_residual is true and weights are bound, whose branches add what they have learned; set it "
                "to false, or bind none"
            )
