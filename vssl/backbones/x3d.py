"""X3D-S: a narrow, deep network of depthwise 3D convolutions with gates on channels.

Source: Feichtenhofer, CVPR 2020 (arXiv:2004.04730), as STS (Li et al., ECCV 2022) has it.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from vssl.backbones.conv_unit import ConvUnit, alone, convolution, pointwise, shortcut
from vssl.backbones.residual import Place, ResidualBlock, residual_stages
from vssl.nn.batchnorm import NormLayer
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
        self.conv1_s = alone(convolution(3, width, (1, 3, 3), stride=2))
        self.conv1_t = ConvUnit(convolution(width, width, (5, 1, 1), groups=width), width, norm_layer)
        stages = residual_stages(_DEPTHS, width, partial(_block, norm_layer=norm_layer), strides=(2, 2, 2, 2))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.num_features = _middle(8 * width)
        self.conv5 = pointwise(8 * width, self.num_features, norm_layer)
        he_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.conv1_t(self.conv1_s(clips))
        features: Tensor = self.conv5(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        return features


def _block(place: Place, norm_layer: NormLayer) -> ResidualBlock:
    gated, middle = place.number % 2 == 0, _middle(place.outputs)
    return x3d_block(
        place.inputs, middle, place.outputs, place.stride, norm_layer, gated=gated, drop_share=place.drop_share
    )


def x3d_block(
    inputs: int, middle: int, outputs: int, stride: int, norm_layer: NormLayer, *, gated: bool, drop_share: float
) -> ResidualBlock:
    """1x1x1, 3x3x3 depthwise, where it is gated squeeze and excitation, Swish, 1x1x1; sizes are channels."""
    depthwise = STSConv3d(middle, middle, (3, 3, 3), stride=stride, groups=middle)
    branch: dict[str, nn.Module] = {
        "conv1": pointwise(inputs, middle, norm_layer),
        "conv2": ConvUnit(depthwise, middle, norm_layer, relu=False),
    }
    if gated:
        branch["se_module"] = _Gate(middle)
    branch |= {"swish": nn.SiLU(), "conv3": pointwise(middle, outputs, norm_layer, relu=False)}
    return ResidualBlock(branch, shortcut(inputs, outputs, stride, norm_layer), drop_share=drop_share)


class _Gate(nn.Module):
    """Squeeze and excitation: a factor from 0 to 1 for each channel, of the means of all channels.

    A departure: biases start as torch draws them, whatever is trained. So they do in STS's pre-training on images; its
    training from scratch on videos starts them at zero.
    """

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


def _middle(outputs: int) -> int:
    return int(_WIDER * outputs)
