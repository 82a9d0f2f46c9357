"""Frames of long sequences: two views that span a whole video or a long stretch of it, and chunks of it in evaluation.

A view has `num_frames` slots. Slots beyond the video's end are masked and repeat its last frame.
Source: CARL (Chen et al., CVPR 2022, arXiv:2203.14957) and its public code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from vssl.data.sampling.dense import Indices

BlockBase = Literal["full", "min"]

_CHANCE = 5  # frames at most from a positive of a time-contrastive pair back to its anchor


@dataclass(frozen=True)
class LongView:
    """The slots of one view as drawn, in order of time."""

    steps: Indices  # (T,) frame numbers, outside the video where masked
    total: int  # frames of the video

    @property
    def frames(self) -> Indices:
        """(T,) source frames."""
        return self.steps.clip(0, self.total - 1)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(T,) whether a slot shows a frame of its own."""
        return (self.steps >= 0) & (self.steps < self.total)

    def with_context(self, num_frames: int, stride: int) -> Indices:
        """(T * num_frames,) source frames: before each slot's frame those that lead to it, `stride` apart."""
        back = np.arange(1 - num_frames, 1, dtype=np.int64) * stride
        return (self.steps[:, None] + back).reshape(-1).clip(0, self.total - 1)


def block_length(total: int, num_frames: int, rate: float, base: BlockBase) -> int:
    """Consecutive slots that a view's frames are drawn from; those past the video's end will be masked.

    Args:
        total: frames of the video.
        num_frames: slots of the view.
        rate: how much longer than its base the block is, at least 1.
        base: `full` takes the video itself, so that a view always begins at its first frame and only the rate varies:
            what the original does for Pouring, PennAction and Kinetics. `min` takes as many frames as the view shows,
            so that views are crops in time: FineGym.
    """
    return math.ceil(rate * (total if base == "full" else min(total, num_frames)))


def offset_bounds(
    total: int, num_frames: int, block: int, min_overlap: float, other_first: int | None
) -> tuple[int, int]:
    """Lowest first frame of a view, and one more than the highest.

    Args:
        total: frames of the video.
        num_frames: slots of the view.
        block: see `block_length`.
        min_overlap: about the least share of the views that overlaps; 0 draws both views independently.
        other_first: first frame that the other view reads, contexts included; None for the first view.
    """
    if other_first is None or min_overlap == 0:
        return 0, max(total - block, 1)
    shift = int((1 - min_overlap) * min(total, num_frames))
    low, high = other_first - shift, other_first + shift + 1
    return max(0, min(total - block, low)), max(1, min(total - block + 1, high))


def stretched_view(total: int, num_frames: int, offset: int, permutation: Indices) -> LongView:
    """Slots at random places of a block: `permutation` of its slots says which."""
    shown = np.sort(offset + permutation[: min(total, num_frames)])
    return LongView(np.concatenate([shown, np.full(num_frames - len(shown), total)]), total)


def uniform_view(total: int, num_frames: int, permutation: Indices) -> LongView:
    """Distinct frames at random places of the video; of one that is too short, all and then nothing."""
    if total < num_frames:
        return LongView(np.arange(num_frames, dtype=np.int64), total)
    return LongView(np.sort(permutation[:num_frames]), total)


def with_positives(anchors: LongView, deltas: Indices) -> LongView:
    """Each slot followed by a slot `deltas` frames from it: the pairs of time-contrastive training."""
    return LongView(np.stack([anchors.steps, anchors.steps + deltas], axis=1).reshape(-1), anchors.total)


def draw_positives(anchors: LongView, generator: Generator) -> LongView:
    """Each slot followed by one that shows a frame 1 to 5 frames earlier."""
    return with_positives(anchors, -torch.randint(1, _CHANCE + 1, anchors.steps.shape, generator=generator).numpy())


def draw_uniform_view(total: int, num_frames: int, generator: Generator) -> LongView:
    return uniform_view(total, num_frames, torch.randperm(total, generator=generator).numpy())


def draw_views(
    total: int,
    num_frames: int,
    generator: Generator,
    *,
    num_views: int = 2,
    max_rate: float = 1.5,
    min_overlap: float = 0.2,
    base: BlockBase = "full",
    context_reach: int = 0,
) -> list[LongView]:
    """Views of one video, each at a random rate; all after the first begin near it.

    Args:
        total: frames of the video.
        num_frames: slots of a view.
        generator: of rates, offsets and slots; rates and slots of the views are independent.
        num_views: 2 in pretraining.
        max_rate: rates are uniform in [1, max_rate].
        min_overlap: see `offset_bounds`.
        base: see `block_length`.
        context_reach: frames that a slot's context goes back.
    """
    views: list[LongView] = []
    for _ in range(num_views):
        rate = 1 + max(max_rate - 1, 0) * torch.rand((), generator=generator, dtype=torch.float64).item()
        block = block_length(total, num_frames, rate, base)
        first = max(int(views[0].frames[0]) - context_reach, 0) if views else None
        low, high = offset_bounds(total, num_frames, block, min_overlap, first)
        offset = int(torch.randint(low, high, (), generator=generator).item())
        permutation = torch.randperm(block, generator=generator).numpy()
        views.append(stretched_view(total, num_frames, offset, permutation))
    return views


def chunks(total: int, at_most: int) -> Sequence[range]:
    """All frames of a video in consecutive ranges of at most `at_most`, of one length but for the last."""
    length = math.ceil(total / math.ceil(total / at_most))
    return [range(first, min(first + length, total)) for first in range(0, total, length)]
