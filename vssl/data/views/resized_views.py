"""Views of STS, and others' for testing: frames are scaled first and cropped then, rounded as their public codes do.

In STS's training both are one crop and one resize of the frame as decoded, which is what the crop of the scaled frame
covers. A departure: its public code treats the central crop of its validation so as well. Here every test scales the
frame first, as that code does in its test of many views, so that a test of one view is a part of that.

Sources: STS (Li et al., ECCV 2022) and mmaction2, on which its public code stands; FGKVMem (Li et al., ACM Multimedia
2023) and PySlowFast.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vssl.data.crops import CropDraw, Halves, Rounding, before_resize, centre_box, first_box, scaled_size, three_crops
from vssl.data.sampling.dense import Indices
from vssl.data.sampling.samplers import VideoClips
from vssl.data.views import augment
from vssl.data.views.augment_config import ResizedCropAugmentConfig, TestRounding, TestViewConfig
from vssl.data.views.clip_views import draw_sized_crops
from vssl.data.views.drawn import AllShown, DrawnView, Streams, draw_coin
from vssl.data.views.looks import Look

_ORDER = (0, 2, 1)  # of the squares along the longer side: start, end, middle
# the scaled frame's longer side, the middle's place, whether the last square begins at twice that
_ROUNDING: dict[TestRounding, tuple[Rounding, Halves, bool]] = {
    "sts": ("nearest", "down", True),
    "fgkvmem": ("down", "nearest", False),
    "torchvision": ("down", "even", False),
}


@dataclass(frozen=True, kw_only=True)
class ResizedCrop(AllShown):
    """A crop of the scaled frame, resized without regard to its aspect."""

    indices: Indices
    look: Look
    side: int
    short_side: int
    crops: tuple[CropDraw, ...]  # attempts, the first that fits is taken, else the square in the middle

    def crop(self, frames: Tensor) -> Tensor:
        planes = augment.to_planes(frames)
        height, width = planes.shape[-2:]
        scaled = scaled_size(height, width, self.short_side, "nearest")
        box = first_box(self.crops, *scaled) or centre_box(*scaled, min(scaled), min(scaled))
        planes = augment.crop(planes, before_resize(box, scaled, (height, width)))
        return augment.resize(planes, self.side, self.side, "bilinear", antialias=False)


@dataclass(frozen=True)
class ResizedCropView:
    """Training view of a fine-tuning: one random clip."""

    config: ResizedCropAugmentConfig
    crop_size: int

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        config = self.config
        view = ResizedCrop(
            indices=clips.draw(streams("clip")),
            look=Look(flip=draw_coin(config.flip_probability, streams("flip"))),
            side=self.crop_size,
            short_side=config.short_side,
            crops=draw_sized_crops(config.crop_area, config.crop_aspect, streams("crop")),
        )
        return [view]


@dataclass(frozen=True)
class ScaledSquare(AllShown):
    """A square of the scaled frame, for testing."""

    indices: Indices
    side: int
    short_side: int
    place: int | None  # of the squares at the start, the middle and the end of the longer side; None: the centre
    rounding: TestRounding = "sts"
    resampling: Literal["bilinear", "bicubic"] = "bilinear"

    @property
    def look(self) -> Look:
        return Look()

    def crop(self, frames: Tensor) -> Tensor:
        planes = augment.to_planes(frames)
        long_side, halves, even = _ROUNDING[self.rounding]
        height, width = scaled_size(planes.shape[-2], planes.shape[-1], self.short_side, long_side)
        planes = augment.resize(planes, height, width, self.resampling, antialias=self.resampling == "bicubic")
        if self.place is None:
            return augment.crop(planes, centre_box(height, width, self.side, self.side, halves=halves))
        return augment.crop(planes, three_crops(height, width, self.side, halves=halves, even=even)[self.place])


@dataclass(frozen=True)
class ScaledTestView:
    """Clips of a test video in the centre, or in three squares: all clips of the first, then of the second."""

    config: TestViewConfig
    crop_size: int

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        shown = clips.spread(self.config.num_clips)
        places = [None] if self.config.num_crops == 1 else _ORDER
        config, side = self.config, self.config.crop_size or self.crop_size
        return [
            ScaledSquare(clip, side, config.short_side, place, config.rounding, config.resampling)
            for place in places
            for clip in shown
        ]
