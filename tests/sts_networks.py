"""STS's six backbones with their heads, and where the golden files keep each of them."""

from typing import Any

import torch
from torch import Tensor, nn

from vssl.backbones.build import build_backbone
from vssl.backbones.sts_backbones_config import (
    CSN50Config,
    R2Plus1D34Config,
    SlowFast50Config,
    SlowOnly50Config,
    X3DSConfig,
)
from vssl.nn.heads import fine_tuning_head

CONFIGS: dict[str, Any] = {
    "csn50": CSN50Config(),
    "r2plus1d34": R2Plus1D34Config(),
    "slowfast50_4x16": SlowFast50Config(),
    "slowfast50_8x8": SlowFast50Config(name="slowfast50_8x8"),
    "slowonly50": SlowOnly50Config(),
    "x3d_s": X3DSConfig(),
}


def case_of(name: str, arrays: Any) -> str:
    """What a file's keys of this network begin with, such as ircsn50_32x2 or v3d_csn50_ir_224."""
    begins = [key.removesuffix("_keys") for key in arrays if key.endswith("_keys")]
    family, _, sampling = name.replace("csn50", "csn").replace("r2plus1d34", "r2plus1d").partition("_")
    (found,) = (case for case in begins if family in case and sampling in case)
    return str(found)


class Classifier(nn.Module):
    def __init__(self, name: str, classes: int, *, images: bool = False) -> None:
        super().__init__()
        self.backbone = build_backbone(CONFIGS[name])
        self.head = fine_tuning_head(self.backbone, classes, hidden_bias=images)

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.head(self.head.pool(self.backbone(clips)))
        return logits


def empty(name: str, classes: int, *, images: bool) -> Classifier:
    """A network in float64 whose weights nobody has drawn."""
    with torch.device("meta"):
        network = Classifier(name, classes, images=images)
    return network.double().eval().to_empty(device="cpu")
