"""Frames spread evenly over a window of a video, the window's first and last frame included.

The window is num_frames * frame_stride long, or the whole video where that is shorter, so the true distance of two
frames is (window - 1) / (num_frames - 1) source frames and not `frame_stride`: 36.4 for 8 x 32. Where the stride itself
matters, take clips of `vssl.data.sampling.segments`.
Source: the public video transformer code after TimeSformer (Bertasius et al., ICML 2021) and ViViT (Arnab et al., ICCV
2021). Its window never touches a long video's last frame; kept, so that draws are comparable.
"""

import numpy as np

from vssl.data.sampling.dense import Indices


def is_enough(total: int, num_frames: int) -> bool:
    """Whether a video has a frame for each of the clip's; the original draws another video where it has not."""
    return total >= num_frames


def num_begins(total: int, num_frames: int, frame_stride: int) -> int:
    """How many first frames a training window is drawn from, uniformly: 0 .. num_begins - 1."""
    return max(0, total - num_frames * frame_stride - 1) + 1


def central_begin(total: int, num_frames: int, frame_stride: int) -> int:
    """First frame of the window in the middle of a video.

    For evaluation: the original draws it there too, and its first generation always took the first frame.
    """
    return max(0, total - num_frames * frame_stride) // 2


def linspace_clip(total: int, num_frames: int, frame_stride: int, begin: int) -> Indices:
    """(num_frames,) source frames of the window that begins at `begin`, positions between frames rounded down.

    Raises:
        ValueError: no window of the video begins there.
    """
    if not 0 <= begin < total:
        raise ValueError(f"begin is {begin}; the video has {total} frames")
    end = min(begin + num_frames * frame_stride, total)
    return np.linspace(begin, end - 1, num_frames).astype(np.int64)
