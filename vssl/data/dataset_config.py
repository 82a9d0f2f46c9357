"""Which videos a stage reads, and which frames of them. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.artifacts import canonical_json, sha256_text
from vssl.config import knob, to_mapping

Modality = Literal["rgb", "flow", "both"]


@dataclass(frozen=True, kw_only=True)
class GeneratedConfig:
    """A labelled set of real encoded video files, made on this machine: classes differ by motion, share appearance."""

    videos_per_class_train: int = knob(20, doc="videos per class in the train split", at_least=1)
    videos_per_class_test: int = knob(8, doc="videos per class in the test split", at_least=1)
    classes: int = knob(6, doc="number of motion classes", at_least=2, at_most=8)
    size: int = knob(64, doc="short side of most videos, pixels", at_least=32)
    frames: int = knob(32, doc="frames of most videos, at least 8 a shot")
    shots: int = knob(
        2, doc="shots per video; each has its own textures and camera, all show the same action", at_least=1
    )
    seed: int = knob(0, doc="of textures, paths and odd sizes")

    def __post_init__(self) -> None:
        if self.frames < 8 * self.shots:
            raise ValueError(
                f"frames is {self.frames} and shots is {self.shots}; a shot has at least 8 frames: set frames to at "
                f"least {8 * self.shots}"
            )


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Where a dataset lies and how it is laid out. Its identity is the digest that `prepare` takes of its content."""

    name: str = knob(doc="short name; shown in tables")
    path: str | None = knob(None, doc="folder of the videos; for a generated set, null")
    layout: Literal["auto", "lists", "split-folders", "class-folders"] = knob(
        "auto",
        doc="lists: `path label` files; split-folders: <split>/<class>/*; class-folders: <class>/*, split by hash",
    )
    lists: dict[str, str] = knob({}, doc="split -> list file, relative to path")
    test_share: float = knob(
        0.25,
        doc="class-folders: share of videos in the test split, chosen by digest of the path",
        at_least=0,
        at_most=1,
    )
    max_broken_share: float = knob(
        0.05, doc="prepare refuses a dataset with a larger share of unreadable files", at_least=0, at_most=1
    )
    generated: GeneratedConfig | None = knob(None, doc="make the videos instead of reading a folder")

    def __post_init__(self) -> None:
        if self.path is not None and not self.path.startswith(("/", "~")):
            raise ValueError(
                f"path is {self.path!r}, which means another folder wherever a line is typed; give an absolute one, as "
                f"in /data/{self.path}"
            )
        if self.path is not None and self.generated is not None:
            raise ValueError(
                f"path is {self.path!r} and generated is given too; keep one: `path` for videos on disk, `generated` "
                "for videos made here"
            )

    def key(self) -> str:
        """Name of this dataset's folder under `sources/`: the same place and layout give the same key."""
        return f"{self.name}-{sha256_text(canonical_json(to_mapping(self)))[:12]}"


@dataclass(frozen=True, kw_only=True)
class ClipsConfig:
    """Which frames make a clip, from which modality, at which size."""

    dataset: DatasetConfig = knob(doc="the videos", semantic=False)
    modality: Modality = knob("rgb", doc="rgb, flow, or both in step")
    num_frames: int = knob(32, doc="frames kept in a clip", at_least=1)
    frame_stride: int = knob(1, doc="source frames from one kept frame to the next", at_least=1)
    crop_size: int = knob(128, doc="height and width of a view, pixels", at_least=1)
    train_split: str = knob("train", doc="split that trains (and is the retrieval gallery)")


@dataclass(frozen=True, kw_only=True)
class EvaluationClipsConfig(ClipsConfig):
    """Clips of a stage that also tests; a stage that only trains has no test split in its identity."""

    test_split: str = knob("test", doc="split that is evaluated (and queries the gallery)")


@dataclass(frozen=True, kw_only=True)
class FlowSourceConfig:
    """The videos that an optical flow stage reads."""

    dataset: DatasetConfig = knob(doc="the videos", semantic=False)
