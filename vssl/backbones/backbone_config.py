"""Which backbone, with which normalisation. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class S3DConfig:
    """Separable Inception-v1 (Xie et al. 2018), 1024 features."""

    name: Literal["s3d"] = "s3d"


@dataclass(frozen=True, kw_only=True)
class S3DGConfig:
    """S3D with self-gating, 1024 features."""

    name: Literal["s3dg"] = "s3dg"


@dataclass(frozen=True, kw_only=True)
class R2Plus1DConfig:
    """R(2+1)D of ten layers (Tran et al. 2018), 512 features."""

    name: Literal["r21d"] = "r21d"


@dataclass(frozen=True, kw_only=True)
class R3D18Config:
    """3D residual network of 18 layers (Tran et al. 2018), 8 x width features."""

    name: Literal["r3d18"] = "r3d18"
    width: int = knob(64, doc="channels of the first stage", at_least=1)
    last_stage: Literal["dilated_first_conv", "original", "strided"] = knob(
        "dilated_first_conv",
        doc="keeps time by dilation (TCLR); original: FGKVMem's public code, whose dilated convolution stands alone in "
        "its block; strided: torchvision's",
    )


@dataclass(frozen=True, kw_only=True)
class SlowR18Config:
    """The slow pathway of SlowFast with 18 layers (Feichtenhofer et al. 2019), 8 x width features."""

    name: Literal["slow_r18"] = "slow_r18"
    width: int = knob(64, doc="channels of the first stage", at_least=1)


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """Three small 3D convolutions: seconds a stage on a CPU, for smoke runs and tests."""

    name: Literal["tiny"] = "tiny"
    width: int = knob(16, doc="channels of the first layer; features are four times as many", at_least=1)


BackboneConfig = S3DConfig | S3DGConfig | R2Plus1DConfig | R3D18Config | SlowR18Config | TinyConfig
