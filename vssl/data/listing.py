"""What a layout names: every video of a dataset with its label, split and recording. Files may be missing or broken."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv",
    ".flv", ".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".vob", ".divx",
)  # fmt: skip
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
EVALUATION_SPLITS = ("test", "val")
UNLABELLED = -1

FrameLabels = Callable[[int, float], NDArray[np.int64]]  # (frames, frames/s) -> label of each frame
Kind = Literal["missing", "unreadable", "too short", "frame labels"]


@dataclass(frozen=True)
class Trim:
    """A part of a longer video, to be cut out of it."""

    video: str  # path of the longer one, relative to the dataset's folder
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Entry:
    """One video as the layout names it."""

    path: str  # relative to the dataset's folder, posix
    label: int  # UNLABELLED where the layout says so
    split: str
    where: str = ""  # "train.txt:12" where a list names it
    group: str = ""  # the recording it was cut from, where that is known
    frame_labels: FrameLabels | None = None
    trim: Trim | None = None  # where the file is still to be cut
    copy_of: str = ""  # id of the video that it stands for

    @property
    def video_id(self) -> str:
        return self.copy_of or self.path


@dataclass(frozen=True)
class Excluded:
    """A video that the layout names and that cannot be used."""

    path: str
    reason: str
    kind: Kind
    where: str = ""  # the line of a list that names it

    @property
    def why(self) -> str:
        return f"{self.reason} ({self.where})" if self.where else self.reason


@dataclass(frozen=True)
class Listing:
    """Every video of a dataset."""

    layout: str
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    ignored: tuple[str, ...] = ()  # files that are no videos by their suffix
    excluded: tuple[Excluded, ...] = ()  # known to be of no use before any file is read
    notes: tuple[str, ...] = ()  # what a person should know of how the layout was read
    misses_files: bool = False  # a published dataset of which nobody has every file
    frame_classes: tuple[str, ...] = ()


def is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def is_text(name: str) -> bool:
    """Whether a file's name can be written down; names of other encodings cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def written(name: str) -> str:
    """A file's name in plain text, whatever bytes are in it."""
    return name.encode(errors="backslashreplace").decode()
