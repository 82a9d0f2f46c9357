"""Clips of equal parts of a video: one dense clip, one frame of each part, or ten clips for a test.

A clip that does not fit is filled by going round the video.
Source: STS (Li et al., ECCV 2022, arXiv:2205.01721) and the loaders of mmaction2, on which its public code stands.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator

from vssl.data.sampling.dense import Indices


@dataclass(frozen=True)
class SegmentStarts:
    """First frames of a video's training clips, before anything is drawn: `first` plus a draw below `choices` each."""

    first: Indices  # (num_clips,)
    choices: int  # 1: nothing is left to chance
    ordered: bool = False  # the draws are put in order: clips that share the whole video

    def at(self, draws: Indices) -> Indices:
        """(num_clips,) first frames for these draws, each from 0 to choices - 1."""
        return self.first + (np.sort(draws) if self.ordered else draws)

    def draw(self, generator: Generator) -> Indices:
        return self.at(torch.randint(self.choices, self.first.shape, generator=generator).numpy())


def segment_starts(total: int, num_frames: int, frame_stride: int, num_clips: int) -> SegmentStarts:
    """Where the training clips of a video may begin: one in each of `num_clips` equal parts, if there is room."""
    room = total - num_frames * frame_stride + 1
    numbers = np.arange(num_clips, dtype=np.int64)
    part = room // num_clips
    if part > 0:
        return SegmentStarts(numbers * part, part)
    if total > max(num_clips, num_frames * frame_stride):
        return SegmentStarts(0 * numbers, room, ordered=True)
    if part == 0:
        return SegmentStarts(np.round(numbers * (room / num_clips)).astype(np.int64), 1)
    return SegmentStarts(0 * numbers, 1)


def central_starts(total: int, num_frames: int, frame_stride: int, num_clips: int) -> Indices:
    """(num_clips,) first frames of a video's test clips, in the middle of what training draws from.

    All 0 where not even one clip fits.
    """
    room = total - num_frames * frame_stride + 1
    if room <= 0:
        return np.zeros(num_clips, dtype=np.int64)
    part = room / num_clips
    return (np.arange(num_clips) * part + part / 2).astype(np.int64)


def looped_clips(starts: Indices, num_frames: int, frame_stride: int, total: int) -> Indices:
    """(len(starts), num_frames) source frames; beyond the last frame comes the first again."""
    offsets = np.arange(num_frames, dtype=np.int64) * frame_stride
    return (starts[:, None] + offsets) % total
