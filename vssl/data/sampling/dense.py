"""Which frames make a clip: pure index arithmetic, no file is opened here.

Source: ViCC (Toering et al., WACV 2022) and the loaders of CoCLR (Han et al., NeurIPS 2020), which it builds on. A clip
has `num_frames` frames, `frame_stride` source frames apart, out of `total` frames.
"""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def is_kept(total: int, num_frames: int, frame_stride: int) -> bool:
    """Whether a video is long enough to be used at all: a little more than half a clip."""
    return total - (num_frames // 2) * frame_stride - 1 > 0


def num_starts(total: int, num_frames: int, frame_stride: int) -> int:
    """How many first frames a training clip is drawn from, uniformly: 0 .. num_starts - 1.

    The last start that would still fit is left out, as in the original. A video that is not longer than a clip is
    taken from any of its first `frame_stride` frames.
    """
    room = total - num_frames * frame_stride
    return room if room > 0 else frame_stride


def clip_indices(total: int, num_frames: int, frame_stride: int, start: int) -> Indices:
    """(num_frames,) source frames of the clip that begins at `start`; a short video is padded on the left with frame 0.

    Raises:
        ValueError: the start is not one of the video's.
    """
    choices = num_starts(total, num_frames, frame_stride)
    if not 0 <= start < choices:
        raise ValueError(f"start is {start}; a clip of {num_frames} x {frame_stride} in {total} frames has {choices}")
    return _pad_left(np.arange(num_frames, dtype=np.int64) * frame_stride + start, total)


def test_windows(total: int, num_frames: int, frame_stride: int) -> Indices:
    """(windows, num_frames) source frames of all test windows of a video.

    The hop is one frame short of half a clip; the tail is covered only as far as whole windows fit.
    """
    span = num_frames * frame_stride
    offsets = np.arange(num_frames, dtype=np.int64) * frame_stride
    if total <= span:
        return _pad_left(offsets, total)[None]
    hop = max(1, span // 2 - 1)
    return np.arange(0, total - span + 1, hop, dtype=np.int64)[:, None] + offsets


def _pad_left(indices: Indices, total: int) -> Indices:
    existing = indices[indices < total]
    return np.concatenate([np.zeros(len(indices) - len(existing), dtype=np.int64), existing])
