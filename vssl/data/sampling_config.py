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


SamplingConfig = DenseConfig | SegmentsConfig | LinspaceConfig | TimedConfig
