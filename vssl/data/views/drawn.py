"""How a video becomes views: every random decision is drawn here, before a pixel is touched.

A decision comes from the sample's own stream for that purpose (clip, view, crop, flip, colour, grey, blur), so that
changing one probability leaves all other draws as they were.

Source: ViCC (Toering et al., WACV 2022), section 4.1, and its public code where the paper is silent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from vssl.data.crops import CropDraw, first_box, three_crops
from vssl.data.sampling.dense import Indices
from vssl.data.sampling.samplers import VideoClips
from vssl.data.views import augment
from vssl.data.views.augment import JitterDraw
from vssl.data.views.augment_config import ClassifyAugmentConfig, TestViewConfig, TwoViewAugmentConfig
from vssl.data.views.looks import Look

Streams = Callable[[str], Generator]  # purpose -> the sample's generator for it

_CLASSIFY_ATTEMPTS = 10  # tries of the classifier's random sized crop before it falls back to the centre
_MAX_MODALITIES = 2  # channels of a grey clip are drawn for RGB and flow, whichever are read
_TEST_JITTER = (0.2, 0.2, 0.2, 0.1)
_TEST_JITTER_PROBABILITY = 0.3


class DrawnView(Protocol):
    """One view of a video with every random decision taken."""

    @property
    def indices(self) -> Indices:
        """(T,) source frames."""
        ...

    @property
    def steps(self) -> Indices:
        """Frame numbers of the view's slots as drawn, outside of the video where a slot shows none of its own."""
        ...

    @property
    def look(self) -> Look:
        """What happens to the view after its crop. RGB and flow share it, but for what is drawn per frame."""
        ...

    def crop(self, frames: Tensor) -> Tensor:
        """(T, H, W, 3) uint8 frames at `indices` -> (T, 3, S, S) uint8."""
        ...


class AllShown:
    """Of views whose every slot shows a frame of its own."""

    indices: Indices

    @property
    def steps(self) -> Indices:
        return self.indices


def finished(view: DrawnView, frames: Tensor, modality: int) -> Tensor:
    """(T, H, W, 3) uint8 frames at a view's indices -> (3, T, S, S) uint8; modality 0 is RGB, 1 is flow."""
    return augment.to_view(view.look.apply(view.crop(frames), modality))


class ViewMaker(Protocol):
    """Draws the views of a video from its sample's streams; `clips` says which frames they may show."""

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]: ...


@dataclass(frozen=True)
class ViewDecision:
    """Which of a sample's two clips a view shows, and whether it is strongly augmented."""

    clip: int
    strong: bool


def draw_decisions(config: TwoViewAugmentConfig, generator: Generator) -> tuple[ViewDecision, ViewDecision]:
    """Two clips, each strong or not; or one clip twice, exactly one of them strong."""
    two_clips, strong_0, strong_1, clip, order = torch.rand(5, generator=generator).tolist()
    if two_clips < config.two_clip_probability:
        return (
            ViewDecision(0, strong_0 < config.strong_probability),
            ViewDecision(1, strong_1 < config.strong_probability),
        )
    shown, first_strong = int(clip < 0.5), order < 0.5
    return ViewDecision(shown, first_strong), ViewDecision(shown, not first_strong)


def draw_crop(area_min: float, generator: Generator) -> CropDraw:
    area, aspect, swap, left, top = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
    return CropDraw(area_min + (1 - area_min) * area, 3 / 4 + (4 / 3 - 3 / 4) * aspect, swap < 0.5, left, top)


def draw_jitter(strength: tuple[float, float, float, float], generator: Generator) -> JitterDraw:
    """Factors uniform in 1 +- strength, never negative; hue shift uniform in +- its strength."""
    unit = (2 * torch.rand(4, generator=generator, dtype=torch.float64) - 1).tolist()
    brightness, contrast, saturation = (_around_one(s, u) for s, u in zip(strength[:3], unit))
    order = torch.randperm(4, generator=generator).tolist()
    return JitterDraw(brightness, contrast, saturation, strength[3] * unit[3], tuple(order))


def draw_coin(probability: float, generator: Generator) -> bool:
    return torch.rand((), generator=generator).item() < probability


@dataclass(frozen=True, kw_only=True)
class TrainView(AllShown):
    """A view for training: random sized crop, then colours, grey, blur and flip as far as they were drawn."""

    indices: Indices
    side: int
    crops: tuple[CropDraw, ...]  # attempts, the first that fits is taken
    squeeze: bool  # where none fits: the whole frame, squeezed; else its centre
    before: int = 0  # side to which the crop is resized first; 0: straight to `side`
    jitter: JitterDraw | None = None
    grey_channels: Tensor | None = None  # (modalities * T,)
    blur_sigma: float | None = None
    flip: bool = False

    @property
    def look(self) -> Look:
        greys = None if self.grey_channels is None else tuple(self.grey_channels.tolist())
        return Look(jitter=self.jitter, grey_channels=greys, blur_sigma=self.blur_sigma, flip=self.flip)

    def crop(self, frames: Tensor) -> Tensor:
        planes = augment.to_planes(frames)
        height, width = planes.shape[-2:]
        box = first_box(self.crops, height, width)
        first = self.before or self.side
        if box is not None:
            planes = augment.resize(augment.crop(planes, box), first, first)
        elif self.squeeze:
            planes = augment.resize(planes, first, first)
        else:
            planes = augment.centre_crop(augment.resize_short_side(planes, first), first)
        return augment.resize(planes, self.side, self.side)


@dataclass(frozen=True)
class TwoView:
    """ViCC's pretraining views: two per sample, strong ("base" in the public code) or plain ("null")."""

    config: TwoViewAugmentConfig
    crop_size: int

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        of = {purpose: streams(purpose) for purpose in ("clip", "view", "crop", "flip", "colour", "grey", "blur")}
        shown = [clips.draw(of["clip"]) for _ in range(2)]
        views = []
        for decision in draw_decisions(self.config, of["view"]):
            # Everything is drawn whether it is used or not, so that no decision moves another one's draw.
            crop = draw_crop(self.config.crop_area_min, of["crop"])
            flip = draw_coin(self.config.flip_probability, of["flip"])
            jittered = draw_coin(self.config.jitter_probability, of["colour"])
            jitter = draw_jitter(self.config.jitter, of["colour"])
            greyed = draw_coin(self.config.grey_probability, of["grey"])
            channels = torch.randint(3, (_MAX_MODALITIES * len(shown[0]),), generator=of["grey"])
            blurred = draw_coin(self.config.blur_probability, of["blur"])
            sigma = 0.1 + 1.9 * torch.rand((), generator=of["blur"]).item()
            views.append(
                TrainView(
                    indices=shown[decision.clip],
                    side=self.crop_size,
                    crops=(crop,),
                    squeeze=True,
                    jitter=jitter if decision.strong and jittered else None,
                    grey_channels=channels if decision.strong and greyed else None,
                    blur_sigma=sigma if decision.strong and blurred else None,
                    flip=flip,
                )
            )
        return views


@dataclass(frozen=True)
class ClassifyView:
    """Training view of a probe or a fine-tuning: one random clip. The flip is drawn per video, not per batch."""

    config: ClassifyAugmentConfig
    crop_size: int

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        colour, crops = streams("colour"), streams("crop")
        jittered = draw_coin(self.config.jitter_probability, colour)
        jitter = draw_jitter(self.config.jitter, colour)
        view = TrainView(
            indices=clips.draw(streams("clip")),
            side=self.crop_size,
            crops=tuple(draw_crop(self.config.crop_area_min, crops) for _ in range(_CLASSIFY_ATTEMPTS)),
            squeeze=False,
            before=self.config.resize_crop,
            jitter=jitter if jittered else None,
            flip=draw_coin(self.config.flip_probability, streams("flip")),
        )
        return [view]


@dataclass(frozen=True)
class SquareView(AllShown):
    """A view for testing: a square, resized. Narrow videos are enlarged rather than padded with black."""

    indices: Indices
    square: int  # side of the crop; 0: the short side
    side: int
    jitter: JitterDraw | None
    place: int | None = None  # of the squares at the start, the middle and the end of the longer side; None: the centre

    @property
    def look(self) -> Look:
        return Look(jitter=self.jitter)

    def crop(self, frames: Tensor) -> Tensor:
        planes = augment.to_planes(frames)
        short = min(planes.shape[-2:])
        if short < self.square:
            planes = augment.resize_short_side(planes, self.square)
        if self.place is None:
            planes = augment.centre_crop(planes, self.square or short)
        else:
            height, width = planes.shape[-2:]
            planes = augment.crop(planes, three_crops(height, width, self.square or short)[self.place])
        return augment.resize(planes, self.side, self.side)


@dataclass(frozen=True)
class TestView:
    """All windows of a video, or some clips of it in one crop or three, or one random clip.

    Without augmentation unless `compat_jitter`: the same views, in the same order, every time.
    """

    __test__ = False  # not a test case

    config: TestViewConfig
    crop_size: int
    one_clip: bool = False

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        shown = clips.draw(streams("clip"))[None] if self.one_clip else clips.spread(self.config.num_clips)
        jitter = None
        if self.config.compat_jitter and draw_coin(_TEST_JITTER_PROBABILITY, streams("colour")):
            jitter = draw_jitter(_TEST_JITTER, streams("colour.factors"))
        places = [None] if self.config.num_crops == 1 else [0, 1, 2]
        side = self.config.crop_size or self.crop_size
        return [SquareView(clip, self.config.centre_crop, side, jitter, place) for place in places for clip in shown]


def _around_one(strength: float, unit: float) -> float:
    low, high = max(0.0, 1 - strength), 1 + strength
    return low + (high - low) * (unit + 1) / 2
