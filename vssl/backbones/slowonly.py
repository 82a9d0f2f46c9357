"""SlowOnly-50: the slow pathway of SlowFast with 50 layers, which looks along time in its last two stages.

Source: Feichtenhofer et al., ICCV 2019 (arXiv:1812.03982), as STS (Li et al., ECCV 2022) has it.
"""

from torch import Tensor, nn

from vssl.backbones.bottleneck import temporal_stages
from vssl.backbones.conv_unit import ConvUnit, convolution, stem_pool
from vssl.nn.batchnorm import NormLayer
from vssl.nn.initial import he_convolutions


class SlowOnly50(nn.Module):
    """(B, 3, T, H, W) -> (B, 32 width, T, H/32, W/32), without pooling. 31,634,496 parameters at width 64.

    Args:
        width: channels of the stem; 64 as published.
        norm_layer: number of channels -> normalisation layer.
    """

    def __init__(self, width: int, norm_layer: NormLayer) -> None:
        super().__init__()
        self.conv1 = ConvUnit(convolution(3, width, (1, 7, 7), stride=2), width, norm_layer)
        self.maxpool = stem_pool()
        self.layer1, self.layer2, self.layer3, self.layer4 = temporal_stages(
            width, (1, 1, 3, 3), (0, 0, 0, 0), norm_layer, drops_shortcut=True
        )
        self.num_features = 32 * width
        he_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.maxpool(self.conv1(clips))
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return features
