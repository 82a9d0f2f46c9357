"""Bottleneck blocks of 50 layers over video that never stride time: ir-CSN's, and those of SlowOnly and SlowFast."""

from torch import nn

from vssl.backbones.conv_unit import ConvUnit, convolution, pointwise, shortcut
from vssl.backbones.residual import Place, ResidualBlock, residual_stages
from vssl.nn.batchnorm import NormLayer
from vssl.nn.sts import STSConv3d

DEPTHS = (3, 4, 6, 3)  # blocks of the four stages
EXPANSION = 4  # outputs of a block per channel of its middle


def depthwise_block(inputs: int, width: int, stride: int, norm_layer: NormLayer, *, drop_share: float) -> ResidualBlock:
    """ir-CSN: 1x1x1, 3x3x3 depthwise, 1x1x1. The middle one is a sequence of one, as its published name says."""
    middle = STSConv3d(width, width, (3, 3, 3), stride=stride, groups=width)
    outputs = EXPANSION * width
    return ResidualBlock(
        {
            "conv1": pointwise(inputs, width, norm_layer),
            "conv2": nn.Sequential(ConvUnit(middle, width, norm_layer)),
            "conv3": pointwise(width, outputs, norm_layer, relu=False),
        },
        shortcut(inputs, outputs, stride, norm_layer),
        drop_share=drop_share,
        drops_shortcut=True,
    )


def temporal_block(
    inputs: int, width: int, stride: int, time: int, norm_layer: NormLayer, *, drop_share: float, drops_shortcut: bool
) -> ResidualBlock:
    """SlowOnly: `time`x1x1, 1x3x3, 1x1x1."""
    outputs = EXPANSION * width
    return ResidualBlock(
        {
            "conv1": ConvUnit(STSConv3d(inputs, width, (time, 1, 1)), width, norm_layer),
            "conv2": ConvUnit(convolution(width, width, (1, 3, 3), stride=stride), width, norm_layer),
            "conv3": pointwise(width, outputs, norm_layer, relu=False),
        },
        shortcut(inputs, outputs, stride, norm_layer),
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
        drops_shortcut: see `ResidualBlock`.
    """

    def block(place: Place) -> ResidualBlock:
        return temporal_block(
            place.inputs if place.number else place.inputs + extra[place.stage],
            place.outputs // EXPANSION,
            place.stride,
            times[place.stage],
            norm_layer,
            drop_share=sum(DEPTHS[: place.stage]) / (sum(DEPTHS) - 1),
            drops_shortcut=drops_shortcut,
        )

    return residual_stages(DEPTHS, width, block, expansion=EXPANSION)
