"""A label for every frame, from what annotators wrote down: phases that follow one another, or elements between gaps.

Source: CARL (Chen et al., CVPR 2022, arXiv:2203.14957), section 4.1, and its public code; Pouring's merge is TCC's.
"""

import numpy as np
from numpy.typing import NDArray

UNLABELLED = -1

Intervals = NDArray[np.float64]  # (K, 2) start and end, seconds
Labels = NDArray[np.int64]  # (T,)


def merge_annotators(intervals: NDArray[np.float64]) -> Intervals:
    """(annotators, K, 2) -> (K, 2): the mean of what they say, without gaps.

    Phases are put in order of their start; where two neighbours leave a gap or overlap, both end at its middle.
    """
    mean = np.asarray(intervals, dtype=np.float64).mean(axis=0)
    merged: Intervals = mean[np.argsort(mean[:, 0], kind="stable")]
    borders = (merged[:-1, 1] + merged[1:, 0]) / 2
    merged[:-1, 1] = merged[1:, 0] = borders
    return merged


def phase_labels(times: NDArray[np.float64], phases: Intervals) -> Labels:
    """The phase of each frame, by the time at which it is shown.

    A phase holds its start and not its end. Of two that hold a frame the first counts; frames before all phases get the
    first one and frames after all the last one.

    Args:
        times: (T,) seconds.
        phases: (K, 2) as of `merge_annotators`.
    """
    inside = (phases[:, 0] <= times[:, None]) & (times[:, None] < phases[:, 1])  # (T, K)
    labels = np.where(times < phases[0, 0], 0, len(phases) - 1)
    return np.where(inside.any(axis=1), inside.argmax(axis=1), labels).astype(np.int64)


def element_labels(segments: NDArray[np.float64], num_frames: int, fps: float) -> Labels:
    """The element of each frame; UNLABELLED between elements. The last frame of a segment is part of it.

    Args:
        segments: (K, 3) rows of start, end (seconds) and class; where two share a frame the later row counts.
        num_frames: of the video.
        fps: its frames per second.
    """
    labels = np.full(num_frames, UNLABELLED, dtype=np.int64)
    for start, end, label in segments:
        labels[int(start * fps) : int(end * fps) + 1] = int(label)
    return labels
