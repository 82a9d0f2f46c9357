"""Strengths and probabilities of augmentations. Torch-free. Defaults are ViCC's (WACV 2022)."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class TwoViewAugmentConfig:
    """ViCC's pretraining views: one draw per clip, shared by RGB and flow."""

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
    """Training views of a linear probe or a fine-tuning."""

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


def _refuse_wide_hue(jitter: tuple[float, float, float, float]) -> None:
    if jitter[3] > 0.5:
        raise ValueError(
            f"jitter is {list(jitter)}: its hue, the last number, is a share of the colour circle to either side; set "
            "it to at most 0.5"
        )
