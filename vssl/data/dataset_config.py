"""Which videos a stage reads, and which frames of them. Torch-free."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vssl.artifacts import canonical_json, sha256_text
from vssl.config import knob, semantic
from vssl.data.generated.images_config import GeneratedImagesConfig
from vssl.data.sampling.sampling_config import DenseConfig, SamplingConfig

Modality = Literal["rgb", "flow", "both"]
Layout = Literal[
    "auto",
    "lists",
    "split-folders",
    "class-folders",
    "image-folders",
    "hmdb51",
    "kinetics",
    "something-something-v2",
    "finegym",
    "transcoded",
]


@dataclass(frozen=True, kw_only=True)
class GeneratedConfig:
    """A labelled set of real encoded video files, made on this machine: classes differ by motion, share appearance."""

    name: Literal["motions"] = knob("motions", doc="which set", since="0.2", neutral="motions")
    videos_per_class_train: int = knob(20, doc="videos per class in the train split", at_least=1)
    videos_per_class_test: int = knob(8, doc="videos per class in the test split", at_least=1)
    classes: int = knob(6, doc="number of motion classes", at_least=2, at_most=8)
    size: int = knob(64, doc="short side of most videos, pixels", at_least=32)
    frames: int = knob(32, doc="frames of most videos, at least 8 a shot")
    shots: int = knob(
        2, doc="shots per video; each has its own textures and camera, all show the same action", at_least=1
    )
    drift: float = knob(
        0.4,
        doc="deviation of a shot's camera, pixels per frame: what a shot shows beside the action",
        at_least=0,
        since="0.2",
        neutral=0.4,
    )
    typical: float = knob(
        0.0,
        doc="share of videos whose object has its class's colour, in every shot; the others have another class's. 0: "
        "objects are as their textures are, and no frame says anything about the class",
        at_least=0,
        at_most=1,
        since="0.2",
        neutral=0.0,
    )
    seed: int = knob(0, doc="of textures, paths and odd sizes")

    def __post_init__(self) -> None:
        if self.frames < 8 * self.shots:
            raise ValueError(
                f"frames is {self.frames} and shots is {self.shots}; a shot has at least 8 frames: set frames to at "
                f"least {8 * self.shots}"
            )


@dataclass(frozen=True, kw_only=True)
class PhasesConfig:
    """Videos of one process in phases, at varying speed and with pauses, every frame labelled; in Pouring's layout."""

    name: Literal["phases"] = "phases"
    videos_train: int = knob(24, doc="videos in the train split", at_least=2)
    videos_val: int = knob(10, doc="videos in the val split", at_least=2)
    phases: int = knob(4, doc="phases of the process", at_least=2, at_most=5)
    size: int = knob(64, doc="height and width, pixels; an even number", at_least=32)
    frames: tuple[int, int] = knob((40, 80), doc="frames of a video: least, most", at_least=16)
    pauses: float = knob(0.5, doc="probability that a phase is interrupted for a while", at_least=0, at_most=1)
    drift: float = knob(0.3, doc="deviation of the camera, pixels per frame", at_least=0)
    seed: int = knob(0, doc="of textures, speeds and pauses")

    def __post_init__(self) -> None:
        if self.frames[0] > self.frames[1]:
            raise ValueError(f"frames is {list(self.frames)}: least before most, as in {[*reversed(self.frames)]}")


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Where a dataset lies and how it is laid out. Its identity is the digest that `prepare` takes of its content."""

    name: str = knob(doc="short name; shown in tables")
    path: str | None = knob(None, doc="folder of the videos; for a generated set, null")
    layout: Layout = knob(
        "auto",
        doc="lists: `path label` files, text, JSON or pickles; split-folders: <split>/<class>/*; class-folders: "
        "<class>/*, split by hash; image-folders: <split>/<class>/* of images; transcoded: what a stage "
        "of that kind made; or a dataset's own, as published",
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
    generated: GeneratedConfig | PhasesConfig | None = knob(None, doc="make the videos instead of reading a folder")
    fold: int = knob(
        1,
        doc="which of the published divisions into train and test, where there are several: UCF101 and HMDB51 have 3",
        at_least=1,
        since="0.2",
        neutral=1,
    )
    classes: str = knob(
        "",
        doc="file of class names, relative to path; '': classes.txt or classInd.txt beside the videos or lists, else "
        "what the train list names",
        since="0.2",
        neutral="",
    )
    group: str = knob(
        "",
        doc="regular expression on a video's path; what it matches (its first group, if it has one) names the "
        "recording that the video was cut from: two splits never share one. '': what the layout knows of",
        since="0.2",
        neutral="",
    )
    known_leaks: tuple[str, ...] = knob(
        (),
        doc="videos (by path) and recordings (by group) that two splits may share, because the published split does",
        since="0.2",
        neutral=(),
    )
    max_missing_share: float | None = knob(
        None,
        doc="share of the named files that may be missing; null: any number for Kinetics, of which nobody has all; "
        "elsewhere a missing file counts as broken",
        at_least=0,
        at_most=1,
        since="0.2",
        neutral=None,
    )
    subset: bool = knob(
        False,
        doc="hmdb51: fewer classes or videos than published are meant; else split files that are lost are an error",
        since="0.2",
        neutral=False,
    )
    generated_images: GeneratedImagesConfig | None = knob(
        None, doc="make images instead of reading a folder", since="0.2", neutral=None
    )

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
        if self.generated_images is not None and (self.path is not None or self.generated is not None):
            raise ValueError(
                "generated_images is given, and path or generated too; keep one: `generated_images` for images made "
                "here"
            )
        if self.fold != 1 and self.lists:
            raise ValueError(
                f"fold is {self.fold} and lists names {', '.join(self.lists.values())}; keep one: lists of that fold, "
                "or `fold` for lists that are found by their usual names"
            )
        try:
            re.compile(self.group)
        except re.error as error:
            raise ValueError(
                f"group is {self.group!r}, which is no regular expression ({error}); for v_Archery_g01_c02.avi it "
                r"could be v_\w+_g\d+"
            ) from None

    def key(self) -> str:
        """Name of this dataset's folder under `sources/`: the same place and layout give the same key."""
        return f"{self.name}-{sha256_text(canonical_json(semantic(self)))[:12]}"


def is_made_here(dataset: Mapping[str, Any]) -> bool:
    """Whether a dataset, as plain values, is made on the machine that reads it."""
    return any(dataset.get(key) is not None for key in ("generated", "generated_images"))


@dataclass(frozen=True, kw_only=True)
class ClipsConfig:
    """Which frames make a clip, from which modality, at which size."""

    dataset: DatasetConfig = knob(doc="the videos", semantic=False)
    modality: Modality = knob("rgb", doc="rgb, flow, or both in step")
    num_frames: int = knob(32, doc="frames kept in a clip", at_least=1)
    frame_stride: int = knob(1, doc="source frames from one kept frame to the next", at_least=1)
    crop_size: int = knob(128, doc="height and width of a view, pixels", at_least=1)
    train_split: str = knob("train", doc="split that trains (and is the retrieval gallery)")
    sampling: SamplingConfig = knob(
        DenseConfig(),
        doc="which frames make a clip, and which videos are long enough",
        since="0.2",
        neutral=DenseConfig(),
    )
    decode_short_side: int = knob(
        0,
        doc="short side that frames are scaled down to as they are decoded, pixels, which is faster, and crops of "
        "training are then of the scaled frame; 0: as stored",
        at_least=0,
        since="0.2",
        neutral=0,
    )
    statistics: Literal["imagenet", "kinetics", "half"] = knob(
        "imagenet",
        doc="what colours are normalised by: imagenet's means and deviations; kinetics: 0.45 and 0.225, as PySlowFast "
        "and FGKVMem have it; half: 0.5 and 0.5, as ViT of ImageNet-21K",
        since="0.2",
        neutral="imagenet",
    )


@dataclass(frozen=True, kw_only=True)
class EvaluationClipsConfig(ClipsConfig):
    """Clips of a stage that also tests; a stage that only trains has no test split in its identity."""

    test_split: str = knob("test", doc="split that is evaluated (and queries the gallery)")


@dataclass(frozen=True, kw_only=True)
class WholeVideosConfig:
    """The videos that a stage reads from their first frame to their last."""

    dataset: DatasetConfig = knob(doc="the videos", semantic=False)
