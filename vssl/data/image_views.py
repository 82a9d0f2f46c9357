"""Views of images, which are clips of one frame: augmented ones to learn from, central ones to be tested on.

Resizing is bicubic with antialiasing, as PIL's.

Source: STS (Li et al., ECCV 2022), whose images are trained on by the recipe A2 of timm (arXiv:2110.00476).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vssl.data import augment
from vssl.data.augment_config import ImageAugmentConfig
from vssl.data.clip_views import draw_sized_crop
from vssl.data.crops import CropDraw, widest_box
from vssl.data.looks import Look
from vssl.data.rand_augment import draw_operations
from vssl.data.samplers import VideoClips
from vssl.data.sampling import Indices
from vssl.data.views import DrawnView, Streams, draw_coin

_ATTEMPTS = 10  # tries of a random sized crop before the largest one in the middle is taken


@dataclass(frozen=True, kw_only=True)
class SizedCrop:
    """A random sized crop, resized."""

    indices: Indices
    look: Look
    side: int
    crops: tuple[CropDraw, ...]  # attempts, the first that fits is taken
    aspect: tuple[float, float]  # of the largest crop in the middle, where none fits

    def crop(self, frames: Tensor) -> Tensor:
        planes = augment.to_planes(frames)
        height, width = planes.shape[-2:]
        boxes = (draw.box(height, width) for draw in self.crops)
        box = next((box for box in boxes if box is not None), widest_box(height, width, *self.aspect))
        return augment.resize(augment.crop(planes, box), self.side, self.side)


@dataclass(frozen=True)
class ImageView:
    """Training view of an image."""

    config: ImageAugmentConfig
    crop_size: int

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        config, crops = self.config, streams("crop")
        operations = draw_operations(config.rand_augment, streams("operations")) if config.rand_augment else ()
        view = SizedCrop(
            indices=clips.draw(streams("clip")),
            look=Look(flip=draw_coin(config.flip_probability, streams("flip")), operations=operations),
            side=self.crop_size,
            crops=tuple(draw_sized_crop(config.crop_area, config.crop_aspect, crops) for _ in range(_ATTEMPTS)),
            aspect=config.crop_aspect,
        )
        return [view]


@dataclass(frozen=True)
class CentralSquare:
    """The centre of an image whose short side is scaled to `short_side`."""

    indices: Indices
    side: int
    short_side: int

    @property
    def look(self) -> Look:
        return Look()

    def crop(self, frames: Tensor) -> Tensor:
        planes = augment.resize_short_side(augment.to_planes(frames), self.short_side)
        return augment.centre_crop(planes, self.side)


@dataclass(frozen=True)
class CentralViews:
    """Test views of an image: its centre, once for each share of the short side that it is to cover."""

    shares: tuple[float, ...]
    crop_size: int

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        (indices,) = clips.spread(1)
        return [CentralSquare(indices, self.crop_size, int(self.crop_size / share)) for share in self.shares]
