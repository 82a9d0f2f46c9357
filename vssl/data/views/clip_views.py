"""Views of FGKVMem and PySlowFast: two independent clips to pretrain on, and a random square of the scaled frame.

The original jitters and blurs whole frames as decoded, in one tall image of all frames of a clip, before it crops.
Here frames are cropped first, which is several times as fast. So contrast is turned around the grey of what the crop
shows, a blur takes in nothing of the frames above and below, nor beyond the crop, and colours are turned after it.

Source: FGKVMem (Li et al., ACM Multimedia 2023) and its public code, a fork of PySlowFast.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from vssl.data.crops import CropDraw, first_box, scaled_size, widest_box
from vssl.data.sampling.dense import Indices
from vssl.data.sampling.samplers import VideoClips
from vssl.data.views import augment
from vssl.data.views.augment import Resampling
from vssl.data.views.augment_config import (
    ClipPairAugmentConfig,
    RandomResizedCropAugmentConfig,
    ShortSideAugmentConfig,
    TestViewConfig,
)
from vssl.data.views.drawn import AllShown, DrawnView, Streams, draw_coin, draw_jitter
from vssl.data.views.looks import Look
from vssl.data.views.rand_augment import draw_operations

_ATTEMPTS = 10  # tries of a random sized crop before one in the middle is taken
_TRIES = 100  # draws of two clips before their gap is taken as it comes


@dataclass(frozen=True, kw_only=True)
class SizedCropView(AllShown):
    """A random sized crop, blurred at the video's own size or not, then resized."""

    indices: Indices
    look: Look
    side: int
    crops: tuple[CropDraw, ...]  # attempts, the first that fits is taken
    aspect: tuple[float, float]  # of the largest crop in the middle, where none fits
    blur_sigma: float | None = None
    mode: Resampling = "bilinear"
    antialias: bool = False

    def crop(self, frames: Tensor) -> Tensor:
        planes = augment.to_planes(frames)
        height, width = planes.shape[-2:]
        box = first_box(self.crops, height, width) or widest_box(height, width, *self.aspect)
        planes = augment.crop(planes, box)
        if self.blur_sigma is not None:
            planes = augment.blur(planes, self.blur_sigma)
        return augment.resize(planes, self.side, self.side, self.mode, antialias=self.antialias)


@dataclass(frozen=True)
class ClipPairView:
    """Two clips of a video, each with draws of its own, the same for all its frames."""

    config: ClipPairAugmentConfig
    crop_size: int

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        config = self.config
        of = {purpose: streams(purpose) for purpose in ("clip", "crop", "flip", "colour", "grey", "blur")}
        views = []
        for indices in self._clips(clips, of["clip"]):
            # Everything is drawn whether it is used or not, so that no decision moves another one's draw.
            jittered = draw_coin(config.jitter_probability, of["colour"])
            jitter = replace(draw_jitter(config.jitter, of["colour"]), whole_clip=True)
            blurred = draw_coin(config.blur_probability, of["blur"])
            sigma = _uniform(config.blur_sigma, of["blur"])
            look = Look(
                jitter=jitter if jittered else None,
                luma="after" if draw_coin(config.grey_probability, of["grey"]) else None,
                flip=draw_coin(config.flip_probability, of["flip"]),
            )
            views.append(
                SizedCropView(
                    indices=indices,
                    look=look,
                    side=self.crop_size,
                    crops=draw_sized_crops(config.crop_area, config.crop_aspect, of["crop"]),
                    aspect=config.crop_aspect,
                    blur_sigma=sigma if blurred else None,
                )
            )
        return views

    def _clips(self, clips: VideoClips, generator: Generator) -> list[Indices]:
        """Two clips, each drawn by itself, so that either may be the earlier one."""
        least, most = self.config.gap or (-math.inf, math.inf)
        for _ in range(_TRIES):
            pair = [clips.draw(generator) for _ in range(2)]
            if least <= gap(*pair) <= most:
                break
        return pair


def gap(one: Indices, other: Indices) -> float:
    """Frames from the last shown one of the earlier clip to the first of the later one; negative where they overlap."""
    earlier, later = sorted((one, other), key=lambda clip: float(clip[0]))
    return float(later[0] - earlier[-1])


def draw_sized_crop(area: tuple[float, float], aspect: tuple[float, float], generator: Generator) -> CropDraw:
    """An attempt: the area uniform, the aspect log-uniform."""
    share, shape, left, top = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    low, high = (math.log(bound) for bound in aspect)
    return CropDraw(area[0] + (area[1] - area[0]) * share, math.exp(low + (high - low) * shape), False, left, top)


def draw_sized_crops(
    area: tuple[float, float], aspect: tuple[float, float], generator: Generator
) -> tuple[CropDraw, ...]:
    """Attempts, of which the first that fits is taken."""
    return tuple(draw_sized_crop(area, aspect, generator) for _ in range(_ATTEMPTS))


@dataclass(frozen=True)
class RandomResizedCropView:
    """One random clip, or an image, in a random crop, resized bicubically with antialiasing, as PIL does it."""

    config: RandomResizedCropAugmentConfig
    crop_size: int

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        config, colour, crop = self.config, streams("colour"), streams("crop")
        jittered = draw_coin(config.jitter_probability, colour)
        jitter = draw_jitter(config.jitter, colour)
        operations = draw_operations(config.rand_augment, streams("operations")) if config.rand_augment else ()
        look = Look(
            jitter=jitter if jittered and config.rand_augment is None else None,
            flip=draw_coin(config.flip_probability, streams("flip")),
            operations=operations,
        )
        return [
            SizedCropView(
                indices=clips.draw(streams("clip")),
                look=look,
                side=self.crop_size,
                crops=draw_sized_crops(config.crop_area, config.crop_aspect, crop),
                aspect=config.crop_aspect,
                mode="bicubic",
                antialias=True,
            )
        ]


@dataclass(frozen=True, kw_only=True)
class RandomSquareView(AllShown):
    """A square at a random place of the frame scaled to a random size."""

    indices: Indices
    look: Look
    side: int
    short_side: int
    top: float  # in [0, 1)
    left: float  # in [0, 1)

    def crop(self, frames: Tensor) -> Tensor:
        planes = augment.to_planes(frames)
        height, width = scaled_size(planes.shape[-2], planes.shape[-1], self.short_side)
        planes = augment.resize(planes, height, width, "bilinear", antialias=False)
        # The last place that would still fit is left out, as in the original.
        top, left = int(self.top * (height - self.side)), int(self.left * (width - self.side))
        return augment.crop(planes, (top, left, self.side, self.side))


@dataclass(frozen=True)
class ShortSideView:
    """Training view of a probe or a fine-tuning: one random clip, grey or not, then jittered."""

    config: ShortSideAugmentConfig
    crop_size: int

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        config, colour = self.config, streams("colour")
        jittered = draw_coin(config.jitter_probability, colour)
        jitter = replace(draw_jitter(config.jitter, colour), whole_clip=True)
        look = Look(
            jitter=jitter if jittered else None,
            luma="before" if draw_coin(config.grey_probability, streams("grey")) else None,
            flip=draw_coin(config.flip_probability, streams("flip")),
        )
        indices = clips.draw(streams("clip"))
        return [draw_random_square(indices, look, self.crop_size, config.short_side, streams("crop"))]


@dataclass(frozen=True)
class LegacyTestView:
    """Test clips in random squares, mirrored half of the time, where three crops were meant: the original's views.

    Drawn by the video's id, so that a repetition shows the same; the original's depend on the order of its workers.
    """

    config: TestViewConfig
    short_side: tuple[int, int]
    crop_size: int

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        crop, flip = streams("crop"), streams("flip")
        return [
            draw_random_square(clip, Look(flip=draw_coin(0.5, flip)), self.crop_size, self.short_side, crop)
            for clip in clips.spread(self.config.num_clips)
            for _ in range(self.config.num_crops)
        ]


def draw_random_square(
    indices: Indices, look: Look, side: int, short_side: tuple[int, int], generator: Generator
) -> RandomSquareView:
    short, top, left = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    low, high = short_side
    return RandomSquareView(
        indices=indices, look=look, side=side, short_side=round(low + (high - low) * short), top=top, left=left
    )


def _uniform(bounds: tuple[float, float], generator: Generator) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * torch.rand((), generator=generator, dtype=torch.float64).item()
