"""Clips measured in time: a stride of so many frames at a target rate, whatever the video's own rate.

Positions are real numbers in frames of the video and are rounded down at the very end.
Source: the public code of FGKVMem (Li et al., ACM Multimedia 2023) and PySlowFast, of which it is a fork.
"""

import math

import numpy as np
import torch
from torch import Generator

from vssl.data.sampling.dense import Indices


def timed_length(num_frames: int, frame_stride: int, fps: float, target_fps: float = 30.0) -> float:
    """Frames of this video that a clip lasts, its last stride included: where indices are spread."""
    return max(1.0, num_frames * frame_stride / target_fps * fps)


def timed_span(num_frames: int, frame_stride: int, fps: float, target_fps: float = 30.0) -> int:
    """Whole frames of this video from a clip's first to its last: where starts are drawn."""
    return max(1, math.ceil(frame_stride * (num_frames - 1) / target_fps * fps))


def view_start(total: float, span: float, view: int, num_views: int, *, to_the_end: bool) -> float:
    """Position at which test view `view` of `num_views` begins.

    Args:
        total: frames of the video.
        span: frames that a clip takes of it.
        view: from 0.
        num_views: evenly spread views of the video.
        to_the_end: the last view ends with the video, by whole frames, and a single one lies in the middle. Else
            views begin where `num_views` equal parts of the room do, so that the end is never seen: the
            original's setting.
    """
    room = max(total - span, 0)
    if not to_the_end:
        return room * view / num_views
    return float(room // 2 if num_views == 1 else view * (room // (num_views - 1)))


def draw_start(total: float, span: float, generator: Generator) -> float:
    """Position at which a training clip begins, uniform over all at which it fits."""
    return max(total - span, 0) * torch.rand((), generator=generator, dtype=torch.float64).item()


def spread(frames: int, start: float, end: float, num_frames: int) -> Indices:
    """(num_frames,) indices spread evenly from `start` to `end` among `frames` frames, kept inside and rounded down."""
    positions = torch.linspace(start, end, num_frames)  # float32: the original's, bit by bit
    return positions.clamp(0, frames - 1).long().numpy()


def timed_clip(
    total: int, fps: float, num_frames: int, frame_stride: int, start: float, target_fps: float = 30.0
) -> Indices:
    """(num_frames,) source frames of the clip that begins at position `start`; a short video repeats its last frame.

    The frames from `start` to the end of the span and one more are what the original decodes; the clip is spread over
    its full length within them, so that its last steps are shorter. Where they are as many as the clip needs, they are
    the clip.

    Raises:
        ValueError: the clip does not begin within the video.
    """
    if not 0 <= start <= total - 1:
        raise ValueError(f"start is {start}; the video has {total} frames")
    first = math.ceil(start)
    last = min(math.floor(start + timed_span(num_frames, frame_stride, fps, target_fps) - 1) + 1, total - 1)
    decoded = last - first + 1
    if decoded == num_frames:
        return np.arange(first, last + 1, dtype=np.int64)
    return first + spread(decoded, 0.0, timed_length(num_frames, frame_stride, fps, target_fps) - 1, num_frames)
