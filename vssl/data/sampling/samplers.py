"""How a video's frames become clips: one random clip for training, evenly spread ones for tests."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Generator

from vssl.data.sampling import dense, linspace, segments, timed
from vssl.data.sampling.dense import Indices
from vssl.data.sampling.long import LongView, draw_positives, draw_uniform_view, draw_views
from vssl.data.sampling.sampling_config import (
    DenseConfig,
    LinspaceConfig,
    LongConfig,
    SamplingConfig,
    SegmentsConfig,
    TimedConfig,
)


class Sampler(Protocol):
    """The rule of one configuration; `total` is a video's length and `fps` its rate in frames."""

    def keeps(self, total: int) -> bool:
        """Whether clips are taken from a video of this length at all."""
        ...

    def draw(self, total: int, fps: float, generator: Generator) -> Indices:
        """(T,) source frames of a random clip."""
        ...

    def spread(self, total: int, fps: float, num_clips: int) -> Indices:
        """(num_clips, T) source frames of clips spread evenly over a video; 0 clips: as many as the rule has."""
        ...


@dataclass(frozen=True)
class VideoClips:
    """The clips of one video."""

    total: int
    fps: float
    sampler: Sampler

    def draw(self, generator: Generator) -> Indices:
        return self.sampler.draw(self.total, self.fps, generator)

    def spread(self, num_clips: int) -> Indices:
        return self.sampler.spread(self.total, self.fps, num_clips)


def build_sampler(config: SamplingConfig, num_frames: int, frame_stride: int) -> Sampler:
    if isinstance(config, SegmentsConfig):
        return _Sparse(num_frames) if config.sparse else _Looped(num_frames, frame_stride)
    if isinstance(config, LinspaceConfig):
        return _Linspace(num_frames, frame_stride)
    if isinstance(config, TimedConfig):
        return _Timed(num_frames, frame_stride, config)
    if isinstance(config, LongConfig):
        return Long(num_frames, config)
    assert isinstance(config, DenseConfig)
    return Dense(num_frames, frame_stride)


@dataclass(frozen=True)
class Dense:
    num_frames: int
    frame_stride: int

    def keeps(self, total: int) -> bool:
        return dense.is_kept(total, self.num_frames, self.frame_stride)

    def draw(self, total: int, fps: float, generator: Generator) -> Indices:
        start = _below(dense.num_starts(total, self.num_frames, self.frame_stride), generator)
        return dense.clip_indices(total, self.num_frames, self.frame_stride, start)

    def spread(self, total: int, fps: float, num_clips: int) -> Indices:
        windows = dense.test_windows(total, self.num_frames, self.frame_stride)
        if num_clips == 0:
            return windows
        if total <= self.num_frames * self.frame_stride:
            return windows.repeat(num_clips, axis=0)
        starts = segments.central_starts(total, self.num_frames, self.frame_stride, num_clips)
        return segments.looped_clips(starts, self.num_frames, self.frame_stride, total)


@dataclass(frozen=True)
class _Looped:
    num_frames: int
    frame_stride: int

    def keeps(self, total: int) -> bool:
        return total > 0

    def draw(self, total: int, fps: float, generator: Generator) -> Indices:
        starts = segments.segment_starts(total, self.num_frames, self.frame_stride, 1).draw(generator)
        clip: Indices = segments.looped_clips(starts, self.num_frames, self.frame_stride, total)[0]
        return clip

    def spread(self, total: int, fps: float, num_clips: int) -> Indices:
        starts = segments.central_starts(total, self.num_frames, self.frame_stride, max(num_clips, 1))
        return segments.looped_clips(starts, self.num_frames, self.frame_stride, total)


@dataclass(frozen=True)
class _Sparse:
    num_frames: int

    def keeps(self, total: int) -> bool:
        return total > 0

    def draw(self, total: int, fps: float, generator: Generator) -> Indices:
        starts = segments.segment_starts(total, 1, 1, self.num_frames).draw(generator)
        clip: Indices = segments.looped_clips(starts, 1, 1, total)[:, 0]
        return clip

    def spread(self, total: int, fps: float, num_clips: int) -> Indices:
        """One clip holds all parts of the video, so that several would be the same one: there is one."""
        return segments.central_starts(total, 1, 1, self.num_frames)[None]


@dataclass(frozen=True)
class _Linspace:
    num_frames: int
    frame_stride: int

    def keeps(self, total: int) -> bool:
        return linspace.is_enough(total, self.num_frames)

    def draw(self, total: int, fps: float, generator: Generator) -> Indices:
        begin = _below(linspace.num_begins(total, self.num_frames, self.frame_stride), generator)
        return linspace.linspace_clip(total, self.num_frames, self.frame_stride, begin)

    def spread(self, total: int, fps: float, num_clips: int) -> Indices:
        if num_clips <= 1:
            begins = [linspace.central_begin(total, self.num_frames, self.frame_stride)]
        else:
            begins = segments.central_starts(total, self.num_frames, self.frame_stride, num_clips).tolist()
        clips = (linspace.linspace_clip(total, self.num_frames, self.frame_stride, one) for one in begins)
        return np.stack(list(clips))


@dataclass(frozen=True)
class _Timed:
    num_frames: int
    frame_stride: int
    config: TimedConfig

    def keeps(self, total: int) -> bool:
        return total > 0

    def draw(self, total: int, fps: float, generator: Generator) -> Indices:
        return self._clip(total, fps, timed.draw_start(total, self._span(fps), generator))

    def spread(self, total: int, fps: float, num_clips: int) -> Indices:
        count, to_the_end = max(num_clips, 1), not self.config.compat_short_of_end
        span = self._span(fps)
        starts = [timed.view_start(total, span, view, count, to_the_end=to_the_end) for view in range(count)]
        return np.stack([self._clip(total, fps, start) for start in starts])

    def _clip(self, total: int, fps: float, start: float) -> Indices:
        target = self.config.target_fps
        return timed.timed_clip(total, fps or target, self.num_frames, self.frame_stride, start, target)

    def _span(self, fps: float) -> int:
        target = self.config.target_fps
        return timed.timed_span(self.num_frames, self.frame_stride, fps or target, target)


@dataclass(frozen=True)
class Long:
    num_frames: int
    config: LongConfig

    def keeps(self, total: int) -> bool:
        return total > 0

    def draw_views(self, total: int, num_views: int, generator: Generator) -> list[LongView]:
        """Views of one video, before their context frames are added."""
        config = self.config
        if config.frames == "stretched":
            return draw_views(
                total,
                self.num_frames,
                generator,
                num_views=num_views,
                max_rate=config.max_rate,
                min_overlap=config.min_overlap,
                base="min" if config.crops_in_time else "full",
                context_reach=(config.num_context_frames - 1) * config.context_stride,
            )
        count = self.num_frames // 2 if config.frames == "pairs" else self.num_frames
        views = [draw_uniform_view(total, count, generator) for _ in range(num_views)]
        return [draw_positives(view, generator) for view in views] if config.frames == "pairs" else views

    def with_context(self, view: LongView) -> Indices:
        """(T * context,) source frames that show the slots of a view."""
        return view.with_context(self.config.num_context_frames, self.config.context_stride)

    def draw(self, total: int, fps: float, generator: Generator) -> Indices:
        return self.with_context(self.draw_views(total, 1, generator)[0])

    def spread(self, total: int, fps: float, num_clips: int) -> Indices:
        """Frames evenly spread over the whole video, in order: there is one such clip."""
        steps = np.linspace(0, total - 1, self.num_frames).round().astype(np.int64)
        return self.with_context(LongView(steps, total))[None]


def _below(choices: int, generator: Generator) -> int:
    return int(torch.randint(choices, (), generator=generator).item())
