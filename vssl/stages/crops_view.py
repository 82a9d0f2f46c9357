"""Five or ten crops of every test window, as ViCC and CoCLR test their classifiers."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vssl.data.sampling.dense import Indices
from vssl.data.sampling.samplers import VideoClips
from vssl.data.views import augment
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.drawn import DrawnView, SquareView, Streams, TestView
from vssl.data.views.looks import Look

_ORDER = (4, 0, 1, 2, 3)  # centre, top left, top right, bottom left, bottom right, out of `augment.five_crops`


@dataclass(frozen=True)
class CropsView:
    """Every window in `crops` crops, one window after the other: five, and for ten the same five of the mirrored frame.

    Colours are jittered, where `compat_jitter` asks for it, by one draw per video.
    """

    config: TestViewConfig
    crop_size: int
    crops: int

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        windows = TestView(self.config, self.crop_size).draw(streams, clips)
        return [_Crop(window, number) for window in windows for number in range(self.crops)]


class _Crop:
    def __init__(self, window: DrawnView, number: int) -> None:
        assert isinstance(window, SquareView)
        self._window, self._number = window, number

    @property
    def indices(self) -> Indices:
        return self._window.indices

    @property
    def steps(self) -> Indices:
        return self._window.steps

    @property
    def look(self) -> Look:
        return self._window.look

    def crop(self, frames: Tensor) -> Tensor:
        planes, square = augment.to_planes(frames), self._window.square
        short = min(planes.shape[-2:])
        if short < square:  # the original fails here, or pads with black
            planes = augment.resize_short_side(planes, square)
        if self._number >= len(_ORDER):
            planes = augment.flip(planes)
        planes = augment.five_crops(planes, square or short)[_ORDER[self._number % len(_ORDER)]]
        return augment.resize(planes, self._window.side, self._window.side)
