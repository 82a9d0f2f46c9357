"""Config of videos made quick to read. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob, nested
from vssl.data.dataset_config import WholeVideosConfig
from vssl.stages.runtime_config import CoresConfig
from vssl.stages.shard_config import ShardConfig


@dataclass(frozen=True, kw_only=True)
class TranscodeConfig(ShardConfig):
    """H.264 without sound, upright, frame by frame and moment by moment what the original is."""

    short_side: int = knob(
        256, doc="what the smaller of height and width is scaled down to, pixels; never up; 0: as stored", at_least=0
    )
    keyframe_interval: int = knob(
        16, doc="frames from one key frame to the next, at most: what a random read decodes in vain", at_least=1
    )
    quality: int = knob(
        18, doc="x264's constant rate factor: 18 looks like the original, 6 more halve the size", at_least=0, at_most=51
    )
    preset: Literal["ultrafast", "veryfast", "faster", "fast", "medium", "slow", "veryslow"] = knob(
        "medium", doc="x264's: slower ones make smaller files of the same quality"
    )
    data: WholeVideosConfig = knob(doc="the videos")
    runtime: CoresConfig = nested(CoresConfig, doc="processes that share the videos")
