"""Labels of frames beside a manifest: as runs of equal labels, one table for a dataset.

`frames.parquet` has the columns video_id, start, stop, label; the runs of a video follow one another from frame 0 to
its last frame, those without a label (-1) included.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vssl.data.listing import UNLABELLED

FILE = "frames.parquet"
_SLACK = 2  # frames by which counters of containers differ from a decoder

Labels = NDArray[np.int64]  # (frames,)
Run = tuple[int, int, int]  # first frame, frame after the last, label


class LabelsDoNotFit(ValueError):
    """A video has another number of frames than labels; the message says how many."""


def written_labels(labels: Labels, frames: int, fps: float) -> Labels:
    """Labels that were written down frame by frame, for the frames that a video really has.

    Raises:
        LabelsDoNotFit: the numbers differ by more than two; up to two are cut, or left without a label.
    """
    if abs(len(labels) - frames) > _SLACK:
        raise LabelsDoNotFit(f"{frames} frames and {len(labels)} frame labels")
    fitted = np.full(frames, UNLABELLED, dtype=np.int64)
    fitted[: len(labels)] = labels[:frames]
    return fitted


def runs_of(labels: Labels) -> tuple[Run, ...]:
    """Runs of equal labels, in order."""
    borders = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return tuple((start, stop, int(labels[start])) for start, stop in pairwise(borders) if start < stop)


def runs_table(runs: Mapping[str, tuple[Run, ...]]) -> pd.DataFrame:
    """Video id -> runs, as the table that `load_frame_labels` reads."""
    rows = [(video, *run) for video, of_video in sorted(runs.items()) for run in of_video]
    return pd.DataFrame(rows, columns=["video_id", "start", "stop", "label"])


def labels_at(labels: Labels, steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels of the frames of these numbers, in their shape; UNLABELLED for numbers outside of the video."""
    inside = (steps >= 0) & (steps < len(labels))
    found: NDArray[np.int64] = np.where(inside, labels[steps.clip(0, len(labels) - 1)], UNLABELLED)
    return found


def load_frame_labels(folder: Path) -> dict[str, Labels]:
    """Video id -> (frames,) labels, -1 where a frame has none, of a dataset prepared in a folder.

    A dataset without labels of frames has none: {}.
    """
    if not (folder / FILE).is_file():
        return {}
    table = pd.read_parquet(folder / FILE)
    lengths = (table["stop"] - table["start"]).to_numpy()
    return {
        str(video): np.repeat(rows["label"].to_numpy(dtype=np.int64), lengths[rows.index.to_numpy()])
        for video, rows in table.groupby("video_id", sort=False)
    }
