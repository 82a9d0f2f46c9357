"""Config of optical flow extraction. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob, nested
from vssl.data.dataset_config import WholeVideosConfig
from vssl.stages.runtime_config import CoresConfig
from vssl.stages.shard_config import ShardConfig

Encoding = Literal["ffv1", "h264-lossless", "h264", "jpeg"]


@dataclass(frozen=True, kw_only=True)
class FlowConfig(ShardConfig):
    """Dense flow between consecutive frames, quantised and stored as video, as in ViCC (arXiv:2106.10137)."""

    algorithm: Literal["farneback", "tvl1", "raft"] = knob(
        "tvl1",
        doc="tvl1 is the paper's; farneback is 40 times faster; raft is a network, whose `weights` are an input: "
        "file:/PATH of torchvision's RAFT, large or small; it works on a GPU where there is one",
    )
    bound: float = knob(20.0, doc="displacements are clipped to +-bound pixels before quantisation to 8 bits", above=0)
    encoding: Encoding = knob(
        "ffv1",
        doc="ffv1 and h264-lossless keep every level, the latter in 0.6 of the space; h264 is off by 0.2 levels on "
        "average in a tenth of the space; jpeg, as the paper's, by 1.2: it halves the resolution of u and v",
        since="0.2",
        neutral="ffv1",
    )
    data: WholeVideosConfig = knob(doc="the videos")
    runtime: CoresConfig = nested(CoresConfig, doc="processes that share the videos")

    def reads(self) -> frozenset[str]:
        return frozenset({"dataset", "parts"} | ({"weights"} if self.algorithm == "raft" else set()))
