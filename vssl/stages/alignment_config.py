"""Config of frame-wise evaluation. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.backbones.backbone_config import BackboneConfig, FrameBackboneConfig, FrameResNet50Config
from vssl.config import knob, nested
from vssl.data.dataset_config import EvaluationClipsConfig
from vssl.data.sampling.sampling_config import LongConfig
from vssl.methods.carl_config import Initial
from vssl.nn.embedder_config import EmbedderConfig, TransformerEmbedderConfig, refuse_unread_context
from vssl.stages.runtime_config import RuntimeConfig

Task = Literal["tau", "retrieval", "classification", "progression", "warp", "probe"]


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig:
    """Embeddings of all frames of all videos, and what they are worth: TCC's and CARL's measures, FineGym's probe."""

    seed: int = knob(0, doc="of an untrained network, of the probe and of t-SNE")
    backbone: BackboneConfig = nested(FrameResNet50Config, doc="must be the backbone that made the weights")
    embedder: EmbedderConfig = nested(TransformerEmbedderConfig, doc="must be the embedder that made the weights")
    initial: Initial = knob(
        "none", doc="where no weights are bound, what the file of an untrained network is, as in pretraining"
    )
    data: EvaluationClipsConfig = knob(doc="videos; num_frames: as in training, over whose positions a video spreads")
    centre_crop: int | None = knob(
        224,
        doc="side of the central square of the frame as it is, pixels; 0: the short side (of FineGym's 640x360, 224 is "
        "little); null: the whole frame squeezed",
        at_least=0,
    )
    unit_embeddings: bool = knob(True, doc="embeddings have length 1")
    sequence: int = knob(
        0,
        doc="frames that an encoder sees at a time; 0: the video. The public code: 1000, FineGym 6000",
        at_least=0,
    )
    block: int = knob(40, doc="frames that go through the backbone at a time", semantic=False, at_least=1)
    tasks: tuple[Task, ...] = knob(
        ("tau", "retrieval", "classification", "progression", "warp"),
        doc="order of neighbours, labels of neighbours, phases by logistic regression, time to events, phases of "
        "videos warped onto one another; probe: a linear layer in place of the regression, as for FineGym",
    )
    stride: int = knob(5, doc="every so manieth frame counts in tau, retrieval and warp", at_least=1)
    ks: tuple[int, ...] = knob((5, 10, 15), doc="retrieval: how many neighbours", at_least=1)
    fractions: tuple[float, ...] = knob(
        (0.1, 0.5, 1.0),
        doc="shares of the training videos; the last one is the headline",
        above=0,
        at_most=1,
    )
    by_action: bool = knob(False, doc="every class of videos by itself, then the mean over classes: PennAction")
    actions: tuple[str, ...] = knob((), doc="classes of videos that are evaluated; none: all")
    probe_lr: float = knob(50.0, doc="probe: learning rate at first", above=0)
    probe_epochs: int = knob(100, doc="probe: passes over the videos", at_least=1)
    probe_batch_size: int = knob(10, doc="probe: videos a step", at_least=1)
    runtime: RuntimeConfig = nested(RuntimeConfig, doc="precision, loading")

    def __post_init__(self) -> None:
        if not isinstance(self.backbone, FrameBackboneConfig):
            raise ValueError(f"backbone is {self.backbone.name}, which sees clips; take frame_resnet50 or tiny_frames")
        if not isinstance(self.data.sampling, LongConfig):
            raise ValueError(
                f"data.sampling.name is {self.data.sampling.name}, and alignment embeds whole videos; set it to long"
            )
        refuse_unread_context(self.embedder, self.data.sampling.num_context_frames)
        if {"classification", "probe"} <= set(self.tasks):
            raise ValueError("tasks holds classification and probe, which are two ways to one number; keep one")
        if not self.fractions or not self.ks or not self.tasks:
            raise ValueError("tasks, fractions and ks each need a value, as in fractions=[1.0]")

    def reads(self) -> frozenset[str]:
        return frozenset({"dataset", "weights"} | ({"initial"} if self.initial != "none" else set()))
