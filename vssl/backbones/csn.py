"""ir-CSN-50: a residual network whose 3D convolutions are depthwise, so that channels are mixed by 1x1x1 ones alone.

Source: Tran et al., ICCV 2019 (arXiv:1904.02811), as STS (Li et al., ECCV 2022) has it: time is strided nowhere, since
an STS convolution cannot.
"""

from functools import partial

from torch import Tensor, nn

from vssl.backbones.bottleneck import DEPTHS, EXPANSION, depthwise_block
from vssl.backbones.conv_unit import ConvUnit, convolution, stem_pool, with_eps
from vssl.backbones.residual import Place, ResidualBlock, residual_stages
from vssl.nn.batchnorm import NormLayer
from vssl.nn.initial import he_convolutions

_EPS = 1e-3  # of all normalisation layers


class CSN50(nn.Module):
    """(B, 3, T, H, W) -> (B, 32 width, T, H/32, W/32), without pooling. 12,311,552 parameters at width 64.

    Args:
        width: channels of the stem; 64 as published.
        norm_layer: number of channels -> normalisation layer.
    """

    def __init__(self, width: int, norm_layer: NormLayer) -> None:
        super().__init__()
        norm_layer = with_eps(norm_layer, _EPS)
        self.conv1 = ConvUnit(convolution(3, width, (3, 7, 7), stride=2), width, norm_layer)
        self.maxpool = stem_pool()
        stages = residual_stages(DEPTHS, width, partial(_block, norm_layer=norm_layer), expansion=EXPANSION)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.num_features = 32 * width
        he_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.maxpool(self.conv1(clips))
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return features


def _block(place: Place, norm_layer: NormLayer) -> ResidualBlock:
    middle = place.outputs // EXPANSION
    return depthwise_block(place.inputs, middle, place.stride, norm_layer, drop_share=place.drop_share)
