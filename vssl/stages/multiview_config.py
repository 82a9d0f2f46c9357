"""Config of testing a classifier that an earlier stage trained. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.backbones.backbone_config import BackboneConfig, S3DConfig, refuse_other_clips
from vssl.config import knob, nested
from vssl.data.dataset_config import EvaluationClipsConfig
from vssl.data.sampling.sampling_config import LongConfig, SegmentsConfig
from vssl.data.views.augment_config import TestViewConfig, refuse_small_sides
from vssl.stages.crops_config import TestCrops, refuse_crops_of_crops
from vssl.stages.runtime_config import RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class MultiviewConfig:
    """Clips and crops of test videos, classified and averaged; nothing is trained."""

    seed: int = knob(0, doc="of `test_view.compat_jitter` and `test_view.legacy_views`")
    batch_size: int = knob(32, doc="windows per forward", semantic=False, at_least=1)
    backbone: BackboneConfig = nested(S3DConfig, doc="must be the backbone that made the weights")
    data: EvaluationClipsConfig = knob(doc="videos and clips")
    test_view: TestViewConfig = nested(TestViewConfig, doc="test views")
    test_crops: TestCrops = knob("ten", doc="centre; five: with the corners; ten: and all of it mirrored")
    scores: Literal["mean", "max"] = knob(
        "mean",
        doc="of a class over a video's views: the mean of its probabilities, which ranks as their sum, or the largest",
        since="0.2",
        neutral="mean",
    )
    average_clips: Literal["prob", "score", "none"] = knob(
        "prob",
        doc="over a video's views: prob: of their probabilities; score: of their logits; none: every view keeps its "
        "logits and is a result of its own",
        since="0.2",
        neutral="prob",
    )
    clip_counts: tuple[int, ...] = knob(
        (),
        doc="other numbers of clips of a video that it is tested with in the same stage, in place of "
        "test_view.num_clips; FGKVMem: 1, 3, 5, 7, 10",
        at_least=1,
        since="0.2",
        neutral=(),
    )
    runtime: RuntimeConfig = nested(RuntimeConfig, doc="precision, loading")

    def __post_init__(self) -> None:
        if self.data.modality == "both":
            raise ValueError(
                "data.modality is both, and a classifier reads one stream; accepted: rgb, flow (fusion joins the two)"
            )
        refuse_small_sides("test_view.legacy_views", self.test_view.legacy_views, self.data.crop_size)
        refuse_crops_of_crops(self.test_crops, self.test_view)
        sides = (self.data.crop_size, self.test_view.crop_size)
        refuse_other_clips(self.backbone, num_frames=self.data.num_frames, sides=sides)
        if self.average_clips != "prob" and (self.scores == "max" or self.test_crops != "centre"):
            raise ValueError(
                f"average_clips is {self.average_clips}, scores is {self.scores} and test_crops is {self.test_crops}; "
                "logits are averaged as they are: set scores to mean and test_crops to centre, or average_clips to prob"
            )
        if self.average_clips == "none" and self.test_view.num_clips == 0:
            raise ValueError(
                "average_clips is none and test_view.num_clips is 0, which may mean another number for each video; "
                "give one, such as 10"
            )
        if len(set(self.clip_counts)) < len(self.clip_counts):
            raise ValueError(f"clip_counts is {list(self.clip_counts)}; give each number once")
        sampling = self.data.sampling
        one_clip = isinstance(sampling, LongConfig) or (isinstance(sampling, SegmentsConfig) and sampling.sparse)
        if self.clip_counts and one_clip:
            raise ValueError(
                f"clip_counts is {list(self.clip_counts)} and data.sampling makes one clip of a whole video; set "
                "clip_counts to [], or take dense, segments, linspace or timed clips"
            )

    def reads(self) -> frozenset[str]:
        return frozenset({"dataset", "weights"} | ({"motion"} if self.data.modality == "flow" else set()))
