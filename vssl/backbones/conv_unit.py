"""What the backbones of STS are built of: a convolution with its normalisation, under the names of the public code."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from vssl.nn.batchnorm import NormLayer

Size = tuple[int, int, int]  # time, height, width


class ConvUnit(nn.Module):
    """A convolution `conv`, its normalisation `bn`, and ReLU unless it is told otherwise."""

    def __init__(self, conv: nn.Module, outputs: int, norm_layer: NormLayer, *, relu: bool = True) -> None:
        super().__init__()
        self.conv = conv
        self.bn = norm_layer(outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.bn(self.conv(x))
        return F.relu(normalised, inplace=True) if self.relu else normalised


def convolution(inputs: int, outputs: int, kernel: Size, *, stride: int = 1, groups: int = 1) -> nn.Conv3d:
    """Without bias, padded so that a stride of 1 keeps every size; `stride` is of height and width."""
    time, height, width = kernel
    padding = (time // 2, height // 2, width // 2)
    return nn.Conv3d(inputs, outputs, kernel, stride=(1, stride, stride), padding=padding, groups=groups, bias=False)


def pointwise(inputs: int, outputs: int, norm_layer: NormLayer, *, stride: int = 1, relu: bool = True) -> ConvUnit:
    """1x1x1: channels are mixed, places are not."""
    return ConvUnit(convolution(inputs, outputs, (1, 1, 1), stride=stride), outputs, norm_layer, relu=relu)


def shortcut(inputs: int, outputs: int, stride: int, norm_layer: NormLayer) -> ConvUnit | None:
    """What stands beside a residual branch that changes the shape; None where it does not."""
    if inputs == outputs and stride == 1:
        return None
    return pointwise(inputs, outputs, norm_layer, stride=stride, relu=False)


def alone(conv: nn.Conv3d) -> nn.Sequential:
    """A convolution without normalisation, under the name that it has in a `ConvUnit`."""
    return nn.Sequential(OrderedDict(conv=conv))


def with_eps(norm_layer: NormLayer, eps: float) -> NormLayer:
    """The same layers with another epsilon."""

    def build(channels: int) -> nn.Module:
        layer = norm_layer(channels)
        layer.eps = eps  # type: ignore[assignment]
        return layer

    return build


def stem_pool() -> nn.MaxPool3d:
    """Halves height and width, keeps every frame."""
    return nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
