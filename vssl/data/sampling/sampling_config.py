"""Which frames make a clip. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class DenseConfig:
    """Frames `frame_stride` apart, from anywhere in the video; tests take all windows: ViCC."""

    name: Literal["dense"] = "dense"


@dataclass(frozen=True, kw_only=True)
class SegmentsConfig:
    """A dense clip that goes round a short video, or one frame of each of `num_frames` equal parts: STS."""

    name: Literal["segments"] = "segments"
    sparse: bool = knob(False, doc="one frame of each equal part of the video; frame_stride is not used")


@dataclass(frozen=True, kw_only=True)
class LinspaceConfig:
    """Frames spread evenly over num_frames * frame_stride, or the whole of a shorter video: TimeSformer, ViViT."""

    name: Literal["linspace"] = "linspace"


@dataclass(frozen=True, kw_only=True)
class TimedConfig:
    """A clip of equal duration whatever the video's frame rate: FGKVMem, PySlowFast."""

    name: Literal["timed"] = "timed"
    target_fps: float = knob(30.0, doc="frames per second that num_frames and frame_stride are counted in", above=0)
    compat_short_of_end: bool = knob(False, doc="test clips never reach the end of a video, as in the public code")


@dataclass(frozen=True, kw_only=True)
class LongConfig:
    """`num_frames` slots that span a whole video, or a long stretch of it, at a random rate: CARL."""

    name: Literal["long"] = "long"
    frames: Literal["stretched", "uniform", "pairs"] = knob(
        "stretched",
        doc="stretched: random frames of a block longer than the video by a random rate, slots beyond its end masked; "
        "uniform: random frames of the video; pairs: half as many, each followed by one up to 5 frames before it",
    )
    max_rate: float = knob(
        1.5, doc="stretched: largest length of a block over that of what it is drawn from", at_least=1
    )
    crops_in_time: bool = knob(
        False, doc="stretched: blocks are as long as a view, for FineGym; else as the video, so that there is no crop"
    )
    min_overlap: float = knob(
        0.2,
        doc="stretched, with crops in time: about the least share of two views that overlaps",
        at_least=0,
        at_most=1,
    )
    num_context_frames: int = knob(1, doc="frames that show one slot, itself and those before it", at_least=1)
    context_stride: int = knob(15, doc="source frames from one of these to the next", at_least=1)


SamplingConfig = DenseConfig | SegmentsConfig | LinspaceConfig | TimedConfig | LongConfig
