"""Config of self-supervised pretraining. Torch-free."""

from dataclasses import dataclass

from vssl.backbones.backbone_config import BackboneConfig, S3DConfig
from vssl.config import knob, nested
from vssl.data.augment_config import PretrainAugmentConfig, TwoViewAugmentConfig
from vssl.data.dataset_config import ClipsConfig
from vssl.methods.fgkvmem_config import FGKVMemConfig
from vssl.methods.vicc_config import ViCCConfig
from vssl.optim_config import CosineConfig, ScheduleConfig, SGDConfig, refuse_endless_warmup
from vssl.stages.knn_monitor_config import KNNMonitorConfig
from vssl.stages.runtime_config import RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    seed: int = knob(31, doc="of initial weights, sample order, augmentations, shuffles")
    epochs: int = knob(doc="epochs to train", at_least=1)
    schedule_epochs: int | None = knob(None, doc="length of the learning rate schedule in epochs; null: `epochs`")
    global_batch_size: int = knob(doc="videos per step over all ranks", at_least=2)
    method: ViCCConfig | FGKVMemConfig = nested(ViCCConfig, doc="the learning objective")
    backbone: BackboneConfig = nested(S3DConfig, doc="the network whose features are learned")
    data: ClipsConfig = knob(doc="videos and clips")
    augment: PretrainAugmentConfig = nested(TwoViewAugmentConfig, doc="how a clip becomes views")
    optim: SGDConfig = nested(SGDConfig, doc="optimiser")
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
        if isinstance(self.method, ViCCConfig):
            _refuse_remainder("method.queue_len", self.method.queue_len, "global_batch_size", self.global_batch_size)
        _refuse_remainder(
            "global_batch_size", self.global_batch_size, "method.bn_group_size", self.method.bn_group_size
        )

    def reads(self) -> frozenset[str]:
        motion = frozenset({"motion"}) if self.data.modality != "rgb" else frozenset()
        streams = frozenset({"main", "second"}) if self.method.main_stream else frozenset()
        return frozenset({"dataset"}) | motion | streams


def _refuse_remainder(key: str, size: int, unit_key: str, unit: int | None) -> None:
    if unit and size % unit:
        fitting = [n for n in (size - size % unit, size - size % unit + unit) if n]
        raise ValueError(
            f"{key} is {size}, not a multiple of {unit_key} ({unit}); set {key} to {' or '.join(map(str, fitting))}"
        )
