"""Which of the six networks that STS is published with. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class STSBackboneConfig:
    """What the backbones of STS have in common (Li et al. 2022): they never stride time, and half of them can see."""

    sts: bool = knob(
        False,
        doc="half of the channels of temporal convolutions read rows and columns inside a frame with them; weights "
        "are the same either way",
    )
    sts_aligned: bool = knob(
        False,
        doc="with sts, rows and columns are true ones; published: windows run on into the next row, strided ones "
        "elsewhere",
    )

    def __post_init__(self) -> None:
        if self.sts_aligned and not self.sts:
            raise ValueError(
                "sts_aligned is true and sts is false, whose convolutions read no rows and columns; set sts to true, "
                "or sts_aligned to false"
            )


@dataclass(frozen=True, kw_only=True)
class CSN50Config(STSBackboneConfig):
    """ir-CSN-50 (Tran et al. 2019): 3D convolutions are depthwise; 32 x width features."""

    name: Literal["csn50"] = "csn50"
    width: int = knob(64, doc="channels of the stem", at_least=2)


@dataclass(frozen=True, kw_only=True)
class R2Plus1D34Config(STSBackboneConfig):
    """R(2+1)D of 34 layers (Tran et al. 2018), 8 x width features."""

    name: Literal["r2plus1d34"] = "r2plus1d34"
    width: int = knob(64, doc="channels of the stem, a multiple of 4", at_least=4)

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_remainder(self.name, self.width, 4)


@dataclass(frozen=True, kw_only=True)
class SlowOnly50Config(STSBackboneConfig):
    """The slow pathway of SlowFast with 50 layers (Feichtenhofer et al. 2019), 32 x width features."""

    name: Literal["slowonly50"] = "slowonly50"
    width: int = knob(64, doc="channels of the stem", at_least=1)


@dataclass(frozen=True, kw_only=True)
class SlowFast50Config(STSBackboneConfig):
    """SlowFast-50 (Feichtenhofer et al. 2019), 36 x width features.

    4x16: every eighth frame goes to the slow path, 8x8: every fourth; each has lateral convolutions of its own length.
    """

    name: Literal["slowfast50_4x16", "slowfast50_8x8"] = "slowfast50_4x16"
    width: int = knob(64, doc="channels of the slow path's stem, a multiple of 32", at_least=32)

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_remainder(self.name, self.width, 32)


@dataclass(frozen=True, kw_only=True)
class X3DSConfig(STSBackboneConfig):
    """X3D-S (Feichtenhofer 2020), 18 x width features."""

    name: Literal["x3d_s"] = "x3d_s"
    width: int = knob(24, doc="channels of the stem, a multiple of 8", at_least=8)

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_remainder(self.name, self.width, 8)


STSBackbonesConfig = CSN50Config | R2Plus1D34Config | SlowOnly50Config | SlowFast50Config | X3DSConfig


def _refuse_remainder(name: str, width: int, unit: int) -> None:
    if width % unit:
        raise ValueError(
            f"width of {name} is {width}; give a multiple of {unit}, such as {width - width % unit + unit}"
        )
