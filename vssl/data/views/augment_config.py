"""Strengths and probabilities of augmentations. Torch-free. Defaults are ViCC's (WACV 2022)."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob
from vssl.data.views.rand_augment_config import RandAugmentConfig

TestRounding = Literal["sts", "fgkvmem", "torchvision"]


@dataclass(frozen=True, kw_only=True)
class TwoViewAugmentConfig:
    """ViCC's pretraining views: one draw per clip, shared by RGB and flow."""

    name: Literal["two-view"] = knob("two-view", doc="which views", since="0.2", neutral="two-view")
    crop_area_min: float = knob(
        0.2, doc="smallest area of the random sized crop, share of the frame", at_least=0, at_most=1
    )
    flip_probability: float = knob(
        0.5, doc="horizontal flip; 0 where left and right are classes", at_least=0, at_most=1
    )
    jitter_probability: float = knob(0.8, doc="colour jitter of a strong view", at_least=0, at_most=1)
    jitter: tuple[float, float, float, float] = knob(
        (0.4, 0.4, 0.4, 0.1), doc="brightness, contrast, saturation, hue", at_least=0
    )
    grey_probability: float = knob(0.2, doc="one colour channel for all three, drawn per frame", at_least=0, at_most=1)
    blur_probability: float = knob(
        0.5, doc="Gaussian blur of a strong view, radius 0.1 to 2 pixels", at_least=0, at_most=1
    )
    two_clip_probability: float = knob(
        0.5, doc="two clips of the video as views; else one clip twice, one of them strong", at_least=0, at_most=1
    )
    strong_probability: float = knob(0.3, doc="that a view of a two-clip sample is strong", at_least=0, at_most=1)

    def __post_init__(self) -> None:
        _refuse_wide_hue(self.jitter)


@dataclass(frozen=True, kw_only=True)
class ClassifyAugmentConfig:
    """Training views of a linear probe or a fine-tuning: ViCC's random sized crops."""

    name: Literal["sized-crop"] = knob("sized-crop", doc="which views", since="0.2", neutral="sized-crop")
    resize_crop: int = knob(
        224, doc="side of the random sized crop before it is resized to crop_size, pixels; 0: none", at_least=0
    )
    crop_area_min: float = knob(
        0.2, doc="smallest area of the random sized crop, share of the frame", at_least=0, at_most=1
    )
    flip_probability: float = knob(
        0.5, doc="horizontal flip; 0 where left and right are classes", at_least=0, at_most=1
    )
    jitter_probability: float = knob(0.3, doc="colour jitter", at_least=0, at_most=1)
    jitter: tuple[float, float, float, float] = knob(
        (0.4, 0.4, 0.4, 0.1), doc="brightness, contrast, saturation, hue", at_least=0
    )

    def __post_init__(self) -> None:
        _refuse_wide_hue(self.jitter)


@dataclass(frozen=True, kw_only=True)
class ClipPairAugmentConfig:
    """Two independent clips of a video, both augmented alike: FGKVMem, and BYOL on video, with MoCo-v2's colours."""

    name: Literal["clip-pair"] = "clip-pair"
    crop_area: tuple[float, float] = knob(
        (0.2, 0.766), doc="area of the random sized crop, share of the frame: least, most", above=0, at_most=1
    )
    crop_aspect: tuple[float, float] = knob(
        (0.75, 1.3333), doc="its width over its height, log-uniform: least, most", above=0
    )
    flip_probability: float = knob(
        0.5, doc="horizontal flip; 0 where left and right are classes", at_least=0, at_most=1
    )
    jitter_probability: float = knob(0.8, doc="colour jitter", at_least=0, at_most=1)
    jitter: tuple[float, float, float, float] = knob(
        (0.6, 0.6, 0.6, 0.15), doc="brightness, contrast, saturation, hue", at_least=0
    )
    grey_probability: float = knob(0.2, doc="no colours", at_least=0, at_most=1)
    blur_probability: float = knob(0.5, doc="Gaussian blur", at_least=0, at_most=1)
    blur_sigma: tuple[float, float] = knob((0.1, 2.0), doc="its deviation, pixels of the video: least, most", above=0)
    gap: tuple[float, float] | None = knob(
        None,
        doc="frames of the video from the last one shown of a clip to the first of the other (the original counts from "
        "the end of the span, up to a frame later): least, most; below 0 they overlap. In 100 draws one fits, or the "
        "last is taken. null: any, as published",
        since="0.2",
        neutral=None,
    )

    def __post_init__(self) -> None:
        _refuse_wide_hue(self.jitter)
        for name in ("crop_area", "crop_aspect", "blur_sigma"):
            _refuse_reversed(name, getattr(self, name))
        if self.gap is not None:
            _refuse_reversed("gap", self.gap)


@dataclass(frozen=True, kw_only=True)
class ShortSideAugmentConfig:
    """Training views of a classifier: frames scaled to a random size, of which a random square is cut: FGKVMem."""

    name: Literal["short-side"] = "short-side"
    short_side: tuple[int, int] = knob(
        (128, 160), doc="short side of the scaled frame, pixels: least, most; crops of 224: 256, 320", at_least=1
    )
    flip_probability: float = knob(
        0.5, doc="horizontal flip; 0 where left and right are classes", at_least=0, at_most=1
    )
    jitter_probability: float = knob(1.0, doc="colour jitter", at_least=0, at_most=1)
    jitter: tuple[float, float, float, float] = knob(
        (0.4, 0.4, 0.4, 0.1), doc="brightness, contrast, saturation, hue", at_least=0
    )
    grey_probability: float = knob(0.2, doc="no colours", at_least=0, at_most=1)

    def __post_init__(self) -> None:
        _refuse_wide_hue(self.jitter)
        _refuse_reversed("short_side", self.short_side)


@dataclass(frozen=True, kw_only=True)
class SequenceAugmentConfig:
    """Views of a long video, each with draws of its own that all of its frames share: CARL."""

    name: Literal["sequence"] = "sequence"
    num_views: Literal[1, 2] = knob(2, doc="views of a video; sequence contrast takes 2")
    crop_area: tuple[float, float] | None = knob(
        (0.8, 1.0),
        doc="area of the random sized crop, share of the frame: least, most; null: the frame squeezed",
        above=0,
    )
    crop_aspect: tuple[float, float] = knob(
        (0.75, 1.3333), doc="its width over its height, log-uniform: least, most", above=0
    )
    flip_probability: float = knob(
        0.5, doc="horizontal flip; 0 where left and right are classes", at_least=0, at_most=1
    )
    jitter_probability: float = knob(0.8, doc="colour jitter", at_least=0, at_most=1)
    jitter: tuple[float, float, float, float] = knob(
        (0.8, 0.8, 0.8, 0.2), doc="brightness, contrast, saturation, hue", at_least=0
    )
    blur_probability: float = knob(
        0.5, doc="Gaussian blur of a view with colour jitter; FineGym: 0", at_least=0, at_most=1
    )
    blur_sigma: tuple[float, float] = knob((0.1, 2.0), doc="its deviation, pixels of the view: least, most", above=0)
    legacy_blur: bool = knob(
        False,
        doc="the blur follows each of the jitter's four operations, as in the public code, so that it is twice as wide",
        since="0.2",
        neutral=False,
    )
    grey_probability: float = knob(0.2, doc="no colours", at_least=0, at_most=1)

    def __post_init__(self) -> None:
        _refuse_wide_hue(self.jitter)
        for name in ("crop_area", "crop_aspect", "blur_sigma"):
            if getattr(self, name) is not None:
                _refuse_reversed(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class RandomResizedCropAugmentConfig:
    """One clip or image in a random crop, resized bicubically, mirrored, recoloured: transformers; STS on images."""

    name: Literal["random-resized-crop"] = "random-resized-crop"
    crop_area: tuple[float, float] = knob(
        (0.08, 1.0), doc="area, share of the frame: least, most; MaskFeat: 0.5, 1", above=0, at_most=1
    )
    crop_aspect: tuple[float, float] = knob(
        (0.75, 1.3333), doc="its width over its height, log-uniform: least, most", above=0
    )
    flip_probability: float = knob(
        0.5, doc="horizontal flip; 0 where left and right are classes", at_least=0, at_most=1
    )
    jitter_probability: float = knob(1.0, doc="colour jitter; MaskFeat: 0", at_least=0, at_most=1)
    jitter: tuple[float, float, float, float] = knob(
        (0.4, 0.4, 0.4, 0.0), doc="brightness, contrast, saturation, hue", at_least=0
    )
    rand_augment: RandAugmentConfig | None = knob(None, doc="operations in place of the colour jitter; null: none")

    def __post_init__(self) -> None:
        _refuse_wide_hue(self.jitter)
        for name in ("crop_area", "crop_aspect"):
            _refuse_reversed(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class ResizedCropAugmentConfig:
    """Training views of a classifier: a random sized crop of the scaled frame, resized, mirrored or not: STS."""

    name: Literal["resized-crop"] = "resized-crop"
    short_side: int = knob(256, doc="short side of the scaled frame, pixels; crops of 160: 192", at_least=1)
    crop_area: tuple[float, float] = knob((0.08, 1.0), doc="area, share of that frame: least, most", above=0, at_most=1)
    crop_aspect: tuple[float, float] = knob(
        (0.75, 1.3333333333333333), doc="its width over its height, log-uniform: least, most", above=0
    )
    flip_probability: float = knob(
        0.5, doc="horizontal flip; 0 where left and right are classes", at_least=0, at_most=1
    )

    def __post_init__(self) -> None:
        for name in ("crop_area", "crop_aspect"):
            _refuse_reversed(name, getattr(self, name))


PretrainAugmentConfig = (
    TwoViewAugmentConfig | ClipPairAugmentConfig | RandomResizedCropAugmentConfig | SequenceAugmentConfig
)
TrainAugmentConfig = (
    ClassifyAugmentConfig | ShortSideAugmentConfig | RandomResizedCropAugmentConfig | ResizedCropAugmentConfig
)


def refuse_small_sides(key: str, sides: tuple[int, int] | None, crop_size: int) -> None:
    """
    Raises:
        ValueError: frames are scaled to a short side that is less than the crop.
    """
    if sides and sides[0] < crop_size:
        raise ValueError(
            f"{key} begins at {sides[0]}, less than data.crop_size ({crop_size}); scale to at least that, as in "
            f"[{round(crop_size * 8 / 7)}, {round(crop_size * 10 / 7)}]"
        )


@dataclass(frozen=True, kw_only=True)
class TestViewConfig:
    """How a test video becomes views: clips, crops, resize, normalise; deterministic unless `compat_jitter`."""

    __test__ = False  # not a test case

    centre_crop: int = knob(224, doc="side of the crop on the native frame, pixels; 0: the short side", at_least=0)
    compat_jitter: bool = knob(False, doc="ViCC's public code jitters colours at test time too, p 0.3 per video")
    num_clips: int = knob(
        0,
        doc="clips per video, spread evenly: 10 is the usual number; 0: all windows of dense clips, else one",
        at_least=0,
        since="0.2",
        neutral=0,
    )
    num_crops: Literal[1, 3] = knob(
        1,
        doc="1: the centre; 3: squares at the start, the middle and the end of the longer side",
        since="0.2",
        neutral=1,
    )
    crop_size: int = knob(
        0,
        doc="side of a view, pixels, where it is not that of training: FGKVMem takes three crops of 128 of a network "
        "trained at 112; 0: data.crop_size",
        at_least=0,
        since="0.2",
        neutral=0,
    )
    short_side: int = knob(
        0,
        doc="short side that frames are scaled to before squares of the view's own side are cut, the middle one last: "
        "STS, FGKVMem, transformers; 0: squares of the frame as it is, which are then resized",
        at_least=0,
        since="0.2",
        neutral=0,
    )
    rounding: TestRounding = knob(
        "sts",
        doc="of the scaled frame's longer side and the middle's place, with short_side: sts rounds the side to the "
        "nearest pixel and the place down, fgkvmem the side down and the place up, torchvision the side down and the "
        "place to an even pixel",
        since="0.2",
        neutral="sts",
    )
    resampling: Literal["bilinear", "bicubic"] = knob(
        "bilinear",
        doc="with short_side: bilinear without antialiasing (STS, FGKVMem, TimeSformer), or bicubic with it (ViViT)",
        since="0.2",
        neutral="bilinear",
    )
    legacy_views: tuple[int, int] | None = knob(
        None,
        doc="FGKVMem's public code shows random crops in place of the three, mirrored half of the time, of frames "
        "scaled to a random short side: its least and most, pixels; null: deterministic crops",
        at_least=1,
        since="0.2",
        neutral=None,
    )

    def __post_init__(self) -> None:
        if self.legacy_views is not None:
            _refuse_reversed("legacy_views", self.legacy_views)


def _refuse_wide_hue(jitter: tuple[float, float, float, float]) -> None:
    if jitter[3] > 0.5:
        raise ValueError(
            f"jitter is {list(jitter)}: its hue, the last number, is a share of the colour circle to either side; set "
            "it to at most 0.5"
        )


def _refuse_reversed(name: str, bounds: tuple[float, float]) -> None:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{name} is {list(bounds)}: least before most, as in {[bounds[1], bounds[0]]}")
