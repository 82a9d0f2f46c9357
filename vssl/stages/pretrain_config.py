"""Config of self-supervised pretraining. Torch-free."""

from dataclasses import dataclass

from vssl.backbones.backbone_config import (
    BackboneConfig,
    FrameBackboneConfig,
    MViTBConfig,
    S3DConfig,
    refuse_other_clips,
)
from vssl.config import knob, nested, refuse_remainder
from vssl.data.dataset_config import ClipsConfig
from vssl.data.sampling.sampling_config import LongConfig
from vssl.data.views.augment_config import (
    PretrainAugmentConfig,
    RandomResizedCropAugmentConfig,
    SequenceAugmentConfig,
    TwoViewAugmentConfig,
)
from vssl.methods.carl_config import CARLConfig
from vssl.methods.fgkvmem_config import FGKVMemConfig
from vssl.methods.maskfeat_config import MaskFeatConfig
from vssl.methods.vicc_config import ViCCConfig
from vssl.nn.embedder_config import refuse_unread_context
from vssl.optim_config import CosineConfig, OptimConfig, ScheduleConfig, SGDConfig, refuse_endless_warmup
from vssl.stages.knn_monitor_config import KNNMonitorConfig
from vssl.stages.runtime_config import RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    seed: int = knob(31, doc="of initial weights, sample order, augmentations, shuffles")
    epochs: int = knob(doc="epochs to train", at_least=1)
    schedule_epochs: int | None = knob(None, doc="length of the learning rate schedule in epochs; null: `epochs`")
    global_batch_size: int = knob(doc="videos per step over all ranks", at_least=1)
    method: ViCCConfig | FGKVMemConfig | MaskFeatConfig | CARLConfig = nested(ViCCConfig, doc="the learning objective")
    backbone: BackboneConfig = nested(S3DConfig, doc="the network whose features are learned")
    data: ClipsConfig = knob(doc="videos and clips")
    augment: PretrainAugmentConfig = nested(TwoViewAugmentConfig, doc="how a clip becomes views")
    optim: OptimConfig = nested(SGDConfig, doc="optimiser")
    schedule: ScheduleConfig = nested(CosineConfig, doc="learning rate over training")
    knn: KNNMonitorConfig | None = knob(
        None, doc="how what is learned is watched as it is learned; null: not at all", semantic=False
    )
    runtime: RuntimeConfig = nested(RuntimeConfig, doc="precision, loading, checkpoints")

    def __post_init__(self) -> None:
        if self.knn and self.data.modality == "both":
            raise ValueError(
                "data.modality is both and knn is given, which asks a network of one stream; set knn to null"
            )
        if self.knn and self.knn.features == "projector" and not isinstance(self.method, ViCCConfig | FGKVMemConfig):
            raise ValueError(
                f"knn.features is projector and method.name is {self.method.name}, which projects no clips; accepted "
                "with projector: vicc, fgkvmem; set knn.features to backbone"
            )
        if (self.data.modality == "both") != (self.method.main_stream is not None):
            raise ValueError(
                f"data.modality is {self.data.modality!r} and method.main_stream is {self.method.main_stream!r}; "
                "cross-stream takes data.modality=both with a main_stream, single-stream rgb or flow without one"
            )
        if self.schedule_epochs is not None and self.schedule_epochs < self.epochs:
            raise ValueError(
                f"schedule_epochs is {self.schedule_epochs}, shorter than epochs ({self.epochs}); set it to at least "
                f"{self.epochs}, or to null for a schedule as long as the training"
            )
        refuse_endless_warmup(self.schedule, self.schedule_epochs or self.epochs)
        self._refuse_clips_where_sequences_are_meant()
        self._refuse_what_cannot_be_masked()
        if isinstance(self.method, ViCCConfig):
            refuse_remainder("method.queue_len", self.method.queue_len, "global_batch_size", self.global_batch_size)
        refuse_remainder("global_batch_size", self.global_batch_size, "method.bn_group_size", self.method.bn_group_size)

    def reads(self) -> frozenset[str]:
        motion = frozenset({"motion"}) if self.data.modality != "rgb" else frozenset()
        streams = frozenset({"main", "second"}) if self.method.main_stream else frozenset()
        file = {"initial"} if isinstance(self.method, CARLConfig) and self.method.initial != "none" else frozenset()
        return frozenset({"dataset"}) | motion | streams | file

    def _refuse_what_cannot_be_masked(self) -> None:
        """MaskFeat reads one view of a clip with MViT, and has something to hide."""
        refuse_other_clips(self.backbone, num_frames=self.data.num_frames, sides=(self.data.crop_size,))
        masks = isinstance(self.method, MaskFeatConfig)
        if isinstance(self.augment, RandomResizedCropAugmentConfig) != masks:
            raise ValueError(
                f"augment.name is {self.augment.name} and method.name is {self.method.name}; random-resized-crop "
                "makes the one view that maskfeat reads, and goes with it alone"
            )
        if not isinstance(self.method, MaskFeatConfig):
            return
        if not isinstance(self.backbone, MViTBConfig):
            raise ValueError(
                f"backbone.name is {self.backbone.name}, and maskfeat reads the tokens of mvit_b; set it to mvit_b"
            )
        side = self.backbone.image_size // 16
        grid = (self.backbone.num_frames // 2, side, side)
        if not all(self.method.hides(grid)):
            raise ValueError(
                f"method.mask_ratio is {self.method.mask_ratio}, which of {grid[0]} x {side} x {side} patches hides "
                "none; raise it, or take larger clips"
            )

    def _refuse_clips_where_sequences_are_meant(self) -> None:
        """Long views of a video go with CARL and a network of single frames, and all of these with one another."""
        if not isinstance(self.method, CARLConfig):
            if self.global_batch_size < 2:
                raise ValueError(
                    f"global_batch_size is {self.global_batch_size}; {self.method.name} compares videos: set it to at "
                    "least 2"
                )
            if isinstance(self.augment, SequenceAugmentConfig):
                fitting = {"vicc": "two-view", "fgkvmem": "clip-pair", "maskfeat": "random-resized-crop"}
                raise ValueError(
                    f"augment.name is sequence, whose long views method carl alone reads, and method.name is "
                    f"{self.method.name}; set augment.name to {fitting[self.method.name]}"
                )
            return
        needed = {
            "data.sampling.name": (isinstance(self.data.sampling, LongConfig), self.data.sampling.name, "long"),
            "augment.name": (isinstance(self.augment, SequenceAugmentConfig), self.augment.name, "sequence"),
            "backbone": (isinstance(self.backbone, FrameBackboneConfig), self.backbone.name, "frame_resnet50"),
            "data.modality": (self.data.modality == "rgb", self.data.modality, "rgb"),
        }
        for key, (fits, given, accepted) in needed.items():
            if not fits:
                raise ValueError(
                    f"{key} is {given}, and method carl embeds the frames of long videos; set it to {accepted}"
                )
        assert isinstance(self.data.sampling, LongConfig)
        assert isinstance(self.augment, SequenceAugmentConfig)
        views = self.augment.num_views
        if self.method.objective == "scl" and views != 2:
            raise ValueError(f"augment.num_views is {views} and method.objective is scl, which compares 2; set it to 2")
        if self.method.objective == "tcn" and self.data.sampling.frames != "pairs":
            raise ValueError(
                f"data.sampling.frames is {self.data.sampling.frames} and method.objective is tcn; set it to pairs"
            )
        refuse_unread_context(self.method.embedder, self.data.sampling.num_context_frames)
        refuse_remainder(
            "global_batch_size", self.global_batch_size, "method.videos_per_loss", self.method.videos_per_loss
        )
