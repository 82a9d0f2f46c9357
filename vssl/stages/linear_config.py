"""Config of the linear probe. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.backbones.backbone_config import BackboneConfig, S3DConfig, refuse_other_clips
from vssl.config import knob, nested
from vssl.data.dataset_config import EvaluationClipsConfig
from vssl.data.views.augment_config import (
    ClassifyAugmentConfig,
    ShortSideAugmentConfig,
    TestViewConfig,
    TrainAugmentConfig,
    refuse_small_sides,
)
from vssl.optim_config import MilestonesConfig, OptimConfig, ScheduleConfig, SGDConfig, refuse_endless_warmup
from vssl.stages.crops_config import TestCrops, refuse_crops_of_crops
from vssl.stages.runtime_config import RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """A linear classifier on frozen features, normalised twice as in ViCC (arXiv:2106.10137), or as they are."""

    seed: int = knob(0, doc="of the head, sample order, augmentations, and of an untrained backbone")
    epochs: int = knob(100, doc="epochs to train", at_least=1)
    global_batch_size: int = knob(128, doc="videos per step over all ranks", at_least=2)
    backbone: BackboneConfig = nested(S3DConfig, doc="must be the backbone that made the weights")
    data: EvaluationClipsConfig = knob(doc="videos and clips")
    augment: TrainAugmentConfig = nested(ClassifyAugmentConfig, doc="training views")
    test_view: TestViewConfig = nested(TestViewConfig, doc="test views")
    test_crops: TestCrops = knob(
        "centre", doc="centre; five: with the corners; ten: and all of it mirrored", since="0.2", neutral="centre"
    )
    head: Literal["normalised", "plain"] = knob(
        "normalised",
        doc="normalised: unit features and batch normalisation under the classifier; plain: the classifier alone, as "
        "in FGKVMem",
        since="0.2",
        neutral="normalised",
    )
    trunk: Literal["eval", "train"] = knob(
        "eval",
        doc="train: batch normalisation of the frozen backbone takes the batch's statistics, and the running ones, "
        "which tests use, drift: FGKVMem's public code. eval: nothing of the backbone changes",
        since="0.2",
        neutral="eval",
    )
    validate_every_epochs: int = knob(
        0,
        doc="epochs from one look at the test split to the next, for the curves val/top1, val/top5 and val/loss; "
        "nothing is chosen by them. 0: it is tested after the last epoch alone",
        semantic=False,
        at_least=0,
    )
    optim: OptimConfig = nested(SGDConfig, doc="optimiser of the head")
    schedule: ScheduleConfig = nested(MilestonesConfig, doc="learning rate over training")
    runtime: RuntimeConfig = nested(RuntimeConfig, doc="precision, loading, checkpoints")

    def __post_init__(self) -> None:
        if self.data.modality == "both":
            raise ValueError(
                "data.modality is both, and a linear probe reads one stream; accepted: rgb, flow (fusion joins the two)"
            )
        if isinstance(self.augment, ShortSideAugmentConfig):
            refuse_small_sides("augment.short_side", self.augment.short_side, self.data.crop_size)
        refuse_small_sides("test_view.legacy_views", self.test_view.legacy_views, self.data.crop_size)
        refuse_endless_warmup(self.schedule, self.epochs)
        refuse_crops_of_crops(self.test_crops, self.test_view)
        sides = (self.data.crop_size, self.test_view.crop_size)
        refuse_other_clips(self.backbone, num_frames=self.data.num_frames, sides=sides)

    def reads(self) -> frozenset[str]:
        return frozenset({"dataset", "weights"} | ({"motion"} if self.data.modality == "flow" else set()))
