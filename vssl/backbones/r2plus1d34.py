"""R(2+1)D of 34 layers in which time is strided nowhere, so that its temporal convolutions can be STS.

Source: Tran et al., CVPR 2018 (arXiv:1711.11248), as STS (Li et al., ECCV 2022) has it. Neither torchvision's
`r2plus1d_18` nor `vssl.backbones.r2plus1d`: other stem, other strides, other middle widths.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from vssl.backbones.bottleneck import DEPTHS
from vssl.backbones.conv_unit import ConvUnit, convolution, stem_pool, with_eps
from vssl.backbones.residual import Place, ResidualBlock, residual_stages
from vssl.nn.batchnorm import NormLayer
from vssl.nn.initial import he_convolutions
from vssl.nn.sts import STSConv3d

_EPS = 1e-3  # of the normalisation after a factored convolution; between its factors it is the default


class R2Plus1D34(nn.Module):
    """(B, 3, T, H, W) -> (B, 8 width, T, H/32, W/32), without pooling. 63,554,081 parameters at width 64.

    Args:
        width: channels of the stem; 64 as published.
        norm_layer: number of channels -> normalisation layer.
    """

    def __init__(self, width: int, norm_layer: NormLayer) -> None:
        super().__init__()
        self.conv1 = _unit(3, width, (3, 7), 2, norm_layer)
        self.maxpool = stem_pool()
        stages = residual_stages(DEPTHS, width, partial(_block, norm_layer=norm_layer))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.num_features = 8 * width
        self._stem_is_frozen = False
        he_convolutions(self)

    def freeze_stem(self) -> None:
        """Leave the stem at its initial weights and statistics, as the public code's images do by oversight."""
        self._stem_is_frozen = True
        self.conv1.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "R2Plus1D34":
        super().train(mode)
        if self._stem_is_frozen:
            self.conv1.eval()
        return self

    def forward(self, clips: Tensor) -> Tensor:
        x = self.maxpool(self.conv1(clips))
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return features


class FactoredConv3d(nn.Module):
    """A spatial convolution, and along time a second one that may be STS.

    Args:
        inputs, outputs: channels.
        kernel: frames, and pixels of a side.
        stride: of height and width.
        norm_layer: number of channels -> normalisation layer between the two.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int, norm_layer: NormLayer) -> None:
        super().__init__()
        time, side = kernel
        middle = middle_channels(inputs, outputs, side)
        self.conv_s = convolution(inputs, middle, (1, side, side), stride=stride)
        self.bn_s = norm_layer(middle)
        self.conv_t = STSConv3d(middle, outputs, (time, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.conv_t(F.relu(self.bn_s(self.conv_s(x)), inplace=True))
        return output


def middle_channels(inputs: int, outputs: int, side: int) -> int:
    """So that both factors have as many weights as a 3D convolution of 3 frames, even where there is 1 frame."""
    area = side * side
    return 3 * area * inputs * outputs // (area * inputs + 3 * outputs)


def _block(place: Place, norm_layer: NormLayer) -> ResidualBlock:
    """Two factored convolutions beside a shortcut, which is one too where the shape changes."""
    inputs, outputs, stride = place.inputs, place.outputs, place.stride
    branch = {
        "conv1": _unit(inputs, outputs, (3, 3), stride, norm_layer),
        "conv2": _unit(outputs, outputs, (3, 3), 1, norm_layer, relu=False),
    }
    changes = inputs != outputs or stride != 1
    downsample = _unit(inputs, outputs, (1, 1), stride, norm_layer, relu=False) if changes else None
    return ResidualBlock(branch, downsample, drop_share=place.drop_share, drops_shortcut=True)


def _unit(
    inputs: int, outputs: int, kernel: tuple[int, int], stride: int, norm_layer: NormLayer, *, relu: bool = True
) -> ConvUnit:
    factored = FactoredConv3d(inputs, outputs, kernel, stride, norm_layer)
    return ConvUnit(factored, outputs, with_eps(norm_layer, _EPS), relu=relu)
