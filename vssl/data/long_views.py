"""Views of a whole video for frame-wise learning: what is drawn for a view holds for all of its frames.

Departures from the public code: a blur follows the colour jitter once, where there it follows each of the four
operations; and it comes after grey, which is the same but for rounding.
Source: CARL (Chen et al., CVPR 2022, arXiv:2203.14957) and its public code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vssl.config import ConfigError
from vssl.data import augment
from vssl.data.augment_config import SequenceAugmentConfig
from vssl.data.clip_views import draw_sized_crop
from vssl.data.crops import CropDraw, centre_box, widest_box
from vssl.data.looks import Look
from vssl.data.samplers import Long, VideoClips
from vssl.data.sampling import Indices
from vssl.data.views import DrawnView, Streams, draw_coin, draw_jitter

_ATTEMPTS = 10  # tries of a random sized crop before the largest one in the middle is taken


@dataclass(frozen=True, kw_only=True)
class SequenceView:
    """A view in which slots of a masked end repeat the last frame."""

    indices: Indices  # (T * context,)
    steps: Indices  # (T,) as drawn
    look: Look
    side: int
    crops: tuple[CropDraw, ...]  # attempts, the first that fits is taken; none: the whole frame is squeezed
    aspect: tuple[float, float]  # of the largest crop in the middle, where none fits

    def crop(self, frames: Tensor) -> Tensor:
        planes = augment.to_planes(frames)
        height, width = planes.shape[-2:]
        if self.crops:
            boxes = (draw.box(height, width) for draw in self.crops)
            box = next((box for box in boxes if box is not None), None)
            planes = augment.crop(planes, box or widest_box(height, width, *self.aspect))
        return augment.resize(planes, self.side, self.side, "bilinear", antialias=False)


@dataclass(frozen=True)
class SequenceViews:
    """Views of a video whose frames are drawn together, and everything else apart."""

    config: SequenceAugmentConfig
    crop_size: int

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        """
        Raises:
            ConfigError: the sampling gives clips, not long views.
        """
        config, sampler = self.config, clips.sampler
        if not isinstance(sampler, Long):
            raise ConfigError("augment.name is sequence, which takes long views; set data.sampling.name to long")
        of = {purpose: streams(purpose) for purpose in ("clip", "crop", "flip", "colour", "grey", "blur")}
        views = []
        for long in sampler.draw_views(clips.total, config.num_views, of["clip"]):
            # Everything is drawn whether it is used or not, so that no decision moves another one's draw.
            crops = [
                draw_sized_crop(config.crop_area or (1.0, 1.0), config.crop_aspect, of["crop"])
                for _ in range(_ATTEMPTS)
            ]
            jittered = draw_coin(config.jitter_probability, of["colour"])
            jitter = draw_jitter(config.jitter, of["colour"])
            blurred = draw_coin(config.blur_probability, of["blur"])
            low, high = config.blur_sigma
            sigma = low + (high - low) * torch.rand((), generator=of["blur"], dtype=torch.float64).item()
            look = Look(
                jitter=jitter if jittered else None,
                luma="after" if draw_coin(config.grey_probability, of["grey"]) else None,
                blur_sigma=sigma if jittered and blurred else None,
                flip=draw_coin(config.flip_probability, of["flip"]),
            )
            views.append(
                SequenceView(
                    indices=sampler.with_context(long),
                    steps=long.steps,
                    look=look,
                    side=self.crop_size,
                    crops=tuple(crops) if config.crop_area else (),
                    aspect=config.crop_aspect,
                )
            )
        return views


def steps_of(view: DrawnView) -> Indices:
    """(T,) frame numbers of a view's slots as drawn, outside of the video where a slot shows none of its own."""
    return view.steps if isinstance(view, SequenceView) else view.indices


def evaluation_frames(frames: Tensor, side: int, centre_crop: int | None) -> Tensor:
    """(T, H, W, 3) uint8 frames -> (T, 3, side, side) uint8, as they are evaluated.

    Args:
        frames: as decoded.
        side: of the result, pixels.
        centre_crop: side of the central square that is cut out of the frame as it is; 0: the short side; None: the
            whole frame is squeezed. A frame that is smaller than the square is squeezed too.
    """
    planes = augment.to_planes(frames)
    height, width = planes.shape[-2:]
    if centre_crop is not None:
        square = centre_crop or min(height, width)
        if square <= min(height, width):
            planes = augment.crop(planes, centre_box(height, width, square, square, halves="nearest"))
    return augment.resize(planes, side, side, "bilinear", antialias=False)
