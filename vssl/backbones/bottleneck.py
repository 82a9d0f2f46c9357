"""Bottleneck blocks of 50 layers over video that never stride time: ir-CSN's, and those of SlowOnly and SlowFast."""

import torch.nn.functional as F
from torch import Tensor, nn

from vssl.backbones.conv_unit import ConvUnit, convolution
from vssl.nn.batchnorm import NormLayer
from vssl.nn.drop_path import DropPath
from vssl.nn.sts import STSConv3d

DEPTHS = (3, 4, 6, 3)  # blocks of the four stages
EXPANSION = 4  # outputs of a block per channel of its middle
_BLOCKS = sum(DEPTHS)


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut, which is one too where the shape changes.

    Args:
        conv1, conv2, conv3: the branch.
        downsample: the shortcut; None: the input itself.
        drop_share: of the network's rate of stochastic depth.
        drops_shortcut: the public code's images drop paths here, where the input of a changing shortcut is dropped.
    """

    def __init__(
        self,
        conv1: nn.Module,
        conv2: nn.Module,
        conv3: ConvUnit,
        downsample: nn.Module | None,
        *,
        drop_share: float,
        drops_shortcut: bool,
    ) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = conv1, conv2, conv3
        self.downsample = downsample
        self.drop_path = DropPath(drop_share)
        self.drop_shortcut = DropPath(drop_share if drops_shortcut else 0.0, "shortcut")

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation that ends the branch."""
        return self.conv3.bn

    def forward(self, x: Tensor) -> Tensor:
        branch = self.drop_path(self.conv3(self.conv2(self.conv1(x))))
        shortcut = x if self.downsample is None else self.downsample(self.drop_shortcut(x))
        return F.relu(branch + shortcut)


def depthwise_block(inputs: int, width: int, stride: int, norm_layer: NormLayer, *, drop_share: float) -> Bottleneck:
    """ir-CSN: 1x1x1, 3x3x3 depthwise, 1x1x1. The middle one is a sequence of one, as its published name says."""
    middle = STSConv3d(width, width, (3, 3, 3), stride=stride, groups=width)
    return Bottleneck(
        _pointwise(inputs, width, norm_layer),
        nn.Sequential(ConvUnit(middle, width, norm_layer)),
        _pointwise(width, EXPANSION * width, norm_layer, relu=False),
        _shortcut(inputs, width, stride, norm_layer),
        drop_share=drop_share,
        drops_shortcut=True,
    )


def temporal_block(
    inputs: int, width: int, stride: int, time: int, norm_layer: NormLayer, *, drop_share: float, drops_shortcut: bool
) -> Bottleneck:
    """SlowOnly: `time`x1x1, 1x3x3, 1x1x1."""
    return Bottleneck(
        ConvUnit(STSConv3d(inputs, width, (time, 1, 1)), width, norm_layer),
        ConvUnit(convolution(width, width, (1, 3, 3), stride=stride), width, norm_layer),
        _pointwise(width, EXPANSION * width, norm_layer, relu=False),
        _shortcut(inputs, width, stride, norm_layer),
        drop_share=drop_share,
        drops_shortcut=drops_shortcut,
    )


def temporal_stages(
    width: int, times: tuple[int, ...], extra: tuple[int, ...], norm_layer: NormLayer, *, drops_shortcut: bool
) -> list[nn.Sequential]:
    """The four stages of a path of SlowOnly's blocks.

    All blocks of a stage share its first one's rate of stochastic depth, as in the public code.

    Args:
        width: channels of the stem and of the first stage's middle.
        times: length of the first convolution of each stage's blocks, frames.
        extra: channels that another path adds to the input of each stage.
        norm_layer: number of channels -> normalisation layer.
        drops_shortcut: see `Bottleneck`.
    """
    stages, inputs = [], width
    for stage, (depth, time) in enumerate(zip(DEPTHS, times)):
        middle, share = width * 2**stage, block_share(sum(DEPTHS[:stage]))
        blocks = []
        for block in range(depth):
            stride = 2 if stage and not block else 1
            channels = inputs + extra[stage] if not block else inputs
            blocks.append(
                temporal_block(
                    channels, middle, stride, time, norm_layer, drop_share=share, drops_shortcut=drops_shortcut
                )
            )
            inputs = EXPANSION * middle
        stages.append(nn.Sequential(*blocks))
    return stages


def block_share(number: int) -> float:
    """Of the rate of stochastic depth, that of a block, which grows from none at the first to all at the last."""
    return number / (_BLOCKS - 1)


def _pointwise(inputs: int, outputs: int, norm_layer: NormLayer, *, relu: bool = True) -> ConvUnit:
    return ConvUnit(convolution(inputs, outputs, (1, 1, 1)), outputs, norm_layer, relu=relu)


def _shortcut(inputs: int, width: int, stride: int, norm_layer: NormLayer) -> ConvUnit | None:
    outputs = EXPANSION * width
    if inputs == outputs and stride == 1:
        return None
    return ConvUnit(convolution(inputs, outputs, (1, 1, 1), stride=stride), outputs, norm_layer, relu=False)
