"""X3D-S: a narrow, deep network of depthwise 3D convolutions with gates on channels.

Source: Feichtenhofer, CVPR 2020 (arXiv:2004.04730), as STS (Li et al., ECCV 2022) has it.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from vssl.backbones.conv_unit import ConvUnit, convolution
from vssl.nn.batchnorm import NormLayer
from vssl.nn.drop_path import DropPath
from vssl.nn.initial import he_convolutions
from vssl.nn.sts import STSConv3d

_DEPTHS = (3, 5, 11, 7)  # blocks of the four stages
_WIDER = 2.25  # channels of a block's middle per channel of its output
_GATE = 16  # channels of a block's middle per channel of its gate, roughly


class X3DS(nn.Module):
    """(B, 3, T, H, W) -> (B, 18 width, T, H/32, W/32), without pooling. 2,089,986 parameters at width 24.

    A classifier on it has a hidden layer, which is most of its weights.

    Args:
        width: channels of the stem; 24 as published.
        norm_layer: number of channels -> normalisation layer.
    """

    hidden_features = 2048

    def __init__(self, width: int, norm_layer: NormLayer) -> None:
        super().__init__()
        self.conv1_s = _Alone(convolution(3, width, (1, 3, 3), stride=2))
        self.conv1_t = ConvUnit(convolution(width, width, (5, 1, 1), groups=width), width, norm_layer)
        self.layer1, self.layer2, self.layer3, self.layer4 = _stages(width, norm_layer)
        self.num_features = _middle(8 * width)
        self.conv5 = ConvUnit(convolution(8 * width, self.num_features, (1, 1, 1)), self.num_features, norm_layer)
        he_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.conv1_t(self.conv1_s(clips))
        features: Tensor = self.conv5(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        return features


class X3DBlock(nn.Module):
    """1x1x1, 3x3x3 depthwise, a gate in every other block, Swish, 1x1x1; beside a shortcut.

    Args:
        inputs, middle, outputs: channels.
        stride: of height and width.
        gated: whether channels are weighed by squeeze and excitation.
        norm_layer: number of channels -> normalisation layer.
        drop_share: of the network's rate of stochastic depth.
    """

    def __init__(
        self,
        inputs: int,
        middle: int,
        outputs: int,
        stride: int,
        norm_layer: NormLayer,
        *,
        gated: bool,
        drop_share: float,
    ) -> None:
        super().__init__()
        self.conv1 = ConvUnit(convolution(inputs, middle, (1, 1, 1)), middle, norm_layer)
        depthwise = STSConv3d(middle, middle, (3, 3, 3), stride=stride, groups=middle)
        self.conv2 = ConvUnit(depthwise, middle, norm_layer, relu=False)
        self.se_module = _Gate(middle) if gated else None
        self.conv3 = ConvUnit(convolution(middle, outputs, (1, 1, 1)), outputs, norm_layer, relu=False)
        self.downsample = (
            ConvUnit(convolution(inputs, outputs, (1, 1, 1), stride=stride), outputs, norm_layer, relu=False)
            if inputs != outputs or stride != 1
            else None
        )
        self.drop_path = DropPath(drop_share)

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation that ends the branch."""
        return self.conv3.bn

    def forward(self, x: Tensor) -> Tensor:
        middle = self.conv2(self.conv1(x))
        if self.se_module is not None:
            middle = self.se_module(middle)
        branch = self.drop_path(self.conv3(F.silu(middle)))
        return F.relu(branch + (x if self.downsample is None else self.downsample(x)))


class _Gate(nn.Module):
    """Squeeze and excitation: a factor from 0 to 1 for each channel, of the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = gate_channels(channels)
        self.fc1 = nn.Conv3d(channels, narrow, 1)
        self.fc2 = nn.Conv3d(narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3, 4), keepdim=True)
        factors: Tensor = self.fc2(F.relu(self.fc1(means))).sigmoid()
        return x * factors


def gate_channels(channels: int) -> int:
    """A sixteenth, rounded to a multiple of 8, at least 8, and never less than nine tenths of what was asked for."""
    asked = channels / _GATE
    rounded = max(8, int(asked + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * asked else rounded


class _Alone(nn.Module):
    """A convolution without normalisation, under the public code's name."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.conv(x)
        return output


def _stages(width: int, norm_layer: NormLayer) -> list[nn.Sequential]:
    stages, inputs, number = [], width, 0
    for stage, depth in enumerate(_DEPTHS):
        blocks = []
        for block in range(depth):
            outputs, stride = width * 2**stage, 1 if block else 2
            share = number / (sum(_DEPTHS) - 1)
            blocks.append(
                X3DBlock(inputs, _middle(outputs), outputs, stride, norm_layer, gated=block % 2 == 0, drop_share=share)
            )
            inputs, number = outputs, number + 1
        stages.append(nn.Sequential(*blocks))
    return stages


def _middle(outputs: int) -> int:
    return int(_WIDER * outputs)
