"""Config of nearest-neighbour retrieval. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.backbones.backbone_config import BackboneConfig, S3DConfig
from vssl.config import knob, nested
from vssl.data.augment_config import TestViewConfig
from vssl.data.dataset_config import EvaluationClipsConfig
from vssl.stages.runtime_config import RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Queries of the test split against the gallery of the train split, as in ViCC (arXiv:2106.10137)."""

    seed: int = knob(0, doc="of an untrained backbone, and of a one-clip gallery")
    gallery: Literal["windows", "one-clip"] = knob(
        "windows", doc="all windows of a gallery video, or one random clip, as the original code does"
    )
    ks: tuple[int, ...] = knob((1, 5, 10, 20, 50), doc="recall at these ranks", at_least=1)
    batch_size: int = knob(32, doc="clips per forward", semantic=False, at_least=1)
    backbone: BackboneConfig = nested(S3DConfig, doc="must be the backbone that made the weights")
    data: EvaluationClipsConfig = knob(doc="videos and clips")
    test_view: TestViewConfig = nested(TestViewConfig, doc="how a clip becomes a view")
    runtime: RuntimeConfig = nested(RuntimeConfig, doc="precision, loading")

    def __post_init__(self) -> None:
        if self.data.modality == "both":
            raise ValueError(
                "data.modality is both, and retrieval reads one stream; accepted: rgb, flow (fusion joins the two)"
            )

    def reads(self) -> frozenset[str]:
        return frozenset({"dataset", "weights"} | ({"motion"} if self.data.modality == "flow" else set()))
