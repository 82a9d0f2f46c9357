"""Config of optical flow extraction. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob, nested
from vssl.data.dataset_config import FlowSourceConfig
from vssl.stages.runtime_config import CoresConfig


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Dense flow between consecutive frames, quantised and stored as video, as in ViCC (arXiv:2106.10137)."""

    algorithm: Literal["farneback", "tvl1"] = knob("tvl1", doc="tvl1 is the paper's; farneback is 40 times faster")
    bound: float = knob(20.0, doc="displacements are clipped to +-bound pixels before quantisation to 8 bits", above=0)
    data: FlowSourceConfig = knob(doc="the videos")
    runtime: CoresConfig = nested(CoresConfig, doc="processes that share the videos")
