"""Views of a whole video for frame-wise learning: what is drawn for a view holds for all of its frames.

Departures from the public code: a blur follows the colour jitter once, where there it follows each of the four
operations, unless `legacy_blur` asks for that; and it comes after grey, which is the same but for rounding. Brightness
and contrast are changed in a random order in the weak views of TCC, TCN and labels, too; there in that order.
Source: CARL (Chen et al., CVPR 2022, arXiv:2203.14957) and its public code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vssl.config import ConfigError
from vssl.data.crops import centre_box
from vssl.data.sampling.dense import Indices
from vssl.data.sampling.long import LongView
from vssl.data.sampling.samplers import Long, VideoClips
from vssl.data.views import augment
from vssl.data.views.augment_config import SequenceAugmentConfig
from vssl.data.views.clip_views import SizedCropView, draw_sized_crops
from vssl.data.views.drawn import DrawnView, Streams, draw_coin, draw_jitter
from vssl.data.views.looks import Look


@dataclass(frozen=True, kw_only=True)
class SequenceView(SizedCropView):
    """A view in which slots of a masked end repeat the last frame; without crops, the whole frame is squeezed.

    There are `T * context` indices.
    """

    long: LongView

    @property
    def steps(self) -> Indices:
        return self.long.steps

    def crop(self, frames: Tensor) -> Tensor:
        if self.crops:
            return super().crop(frames)
        return augment.resize(augment.to_planes(frames), self.side, self.side, self.mode, antialias=self.antialias)


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
            crops = draw_sized_crops(config.crop_area or (1.0, 1.0), config.crop_aspect, of["crop"])
            jittered = draw_coin(config.jitter_probability, of["colour"])
            jitter = draw_jitter(config.jitter, of["colour"])
            blurred = draw_coin(config.blur_probability, of["blur"])
            low, high = config.blur_sigma
            sigma = low + (high - low) * torch.rand((), generator=of["blur"], dtype=torch.float64).item()
            look = Look(
                jitter=jitter if jittered else None,
                luma="after" if draw_coin(config.grey_probability, of["grey"]) else None,
                blur_sigma=sigma if jittered and blurred else None,
                blur_each=config.legacy_blur and jittered and blurred,
                flip=draw_coin(config.flip_probability, of["flip"]),
            )
            views.append(
                SequenceView(
                    indices=sampler.with_context(long),
                    long=long,
                    look=look,
                    side=self.crop_size,
                    crops=crops if config.crop_area else (),
                    aspect=config.crop_aspect,
                )
            )
        return views


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
