"""Views of images, which are clips of one frame, to be tested on: their centre.

Resizing is bicubic with antialiasing, as PIL's.

Source: STS (Li et al., ECCV 2022), whose images are trained on by the recipe A2 of timm (arXiv:2110.00476).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vssl.data.sampling.dense import Indices
from vssl.data.sampling.samplers import VideoClips
from vssl.data.views import augment
from vssl.data.views.drawn import AllShown, DrawnView, Streams
from vssl.data.views.looks import Look


@dataclass(frozen=True)
class CentralSquare(AllShown):
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
