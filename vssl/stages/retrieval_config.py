"""Config of nearest-neighbour retrieval. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.backbones.backbone_config import BackboneConfig, S3DConfig, refuse_other_clips
from vssl.config import knob, nested
from vssl.data.dataset_config import EvaluationClipsConfig
from vssl.data.views.augment_config import TestViewConfig, refuse_small_sides
from vssl.stages.runtime_config import RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Queries of the test split against the gallery of the train split: ViCC (arXiv:2106.10137), FGKVMem."""

    seed: int = knob(0, doc="of an untrained backbone, of a one-clip gallery, and of `test_view.legacy_views`")
    gallery: Literal["windows", "one-clip", "centre-clip"] = knob(
        "windows",
        doc="windows: as of a query; one-clip: one random clip, as ViCC's code has it; centre-clip: the one in the "
        "middle in its central crop, as FGKVMem has it",
    )
    features: Literal["unit-centred", "raw"] = knob(
        "unit-centred",
        doc="unit-centred: unit vectors are averaged over windows, and each set is centred by its own mean, as in "
        "ViCC; raw: features are averaged as they are, as in FGKVMem. Cosine compares both",
        since="0.2",
        neutral="unit-centred",
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

        if self.test_view.legacy_views and self.gallery == "one-clip":
            raise ValueError(
                "gallery is one-clip and test_view.legacy_views is given, which come from two systems; take "
                "gallery=centre-clip with it, or set legacy_views to null"
            )
        refuse_small_sides("test_view.legacy_views", self.test_view.legacy_views, self.data.crop_size)
        sides = (self.data.crop_size, self.test_view.crop_size)
        refuse_other_clips(self.backbone, num_frames=self.data.num_frames, sides=sides)

    def reads(self) -> frozenset[str]:
        return frozenset({"dataset", "weights"} | ({"motion"} if self.data.modality == "flow" else set()))
