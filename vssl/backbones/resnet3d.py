"""Residual networks of 18 layers over video: R3D-18, which strides time, and Slow-R18, which keeps every frame.

Sources: Tran et al., CVPR 2018 (arXiv:1711.11248); Feichtenhofer et al., ICCV 2019 (arXiv:1812.03982), the slow
pathway; the last stage of R3D-18 after TCLR (arXiv:2101.07974). torchvision has R3D-18, with the parameter names used
here and computing the same, but at one width, with one normalisation layer and without those last stages.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vssl.nn.batchnorm import NormLayer
from vssl.nn.initial import he_convolutions

LastStage = Literal["dilated_first_conv", "original", "strided"]
Size = tuple[int, int, int]  # time, height, width

_KEEP: Size = (1, 1, 1)
_HALVE: Size = (2, 2, 2)
_HALVE_SPACE: Size = (1, 2, 2)


class R3D18(nn.Module):
    """(B, 3, T, H, W) -> (B, 8 width, T/4, H/16, W/16), without pooling; 16 x 112 x 112 gives 512 x 4 x 7 x 7.

    Args:
        width: channels of the first stage; 64 as published.
        last_stage: the last stage keeps time, its first convolution being dilated in time instead of strided
            (`dilated_first_conv`, 33,166,272 parameters at width 64). `original`: as the public code of FGKVMem builds
            it, where the dilated convolution stands alone in its block, without normalisation and without the second
            convolution (26,086,336). `strided`: as torchvision, T/8 (33,166,272).
        norm_layer: number of channels -> normalisation layer.
    """

    def __init__(self, width: int, last_stage: LastStage, norm_layer: NormLayer) -> None:
        super().__init__()
        self.num_features = 8 * width
        self.stem = nn.Sequential(*_convolution(3, width, (3, 7, 7), _HALVE_SPACE, norm_layer), nn.ReLU(inplace=True))
        self.layer1 = _stage(width, width, (3, 3), _KEEP, norm_layer)
        self.layer2 = _stage(width, 2 * width, (3, 3), _HALVE, norm_layer)
        self.layer3 = _stage(2 * width, 4 * width, (3, 3), _HALVE, norm_layer)
        first: type[_Block] = {
            "strided": _Block,
            "dilated_first_conv": _DilatedBlock,
            "original": _LoneConvolutionBlock,
        }[last_stage]
        last_stride = _HALVE if last_stage == "strided" else _HALVE_SPACE
        self.layer4 = _stage(4 * width, 8 * width, (3, 3), last_stride, norm_layer, first)
        he_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor:
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(clips)))))
        return features


class SlowR18(nn.Module):
    """(B, 3, T, H, W) -> (B, 8 width, T, H/32, W/32), without pooling; 8 x 224 x 224 gives 512 x 8 x 7 x 7.

    Time is convolved in the last two stages alone, and strided nowhere. 20,023,872 parameters at width 64.

    Args:
        width: channels of the first stage; 64 as published.
        norm_layer: number of channels -> normalisation layer.
    """

    def __init__(self, width: int, norm_layer: NormLayer) -> None:
        super().__init__()
        self.num_features = 8 * width
        self.stem = nn.Sequential(
            *_convolution(3, width, (1, 7, 7), _HALVE_SPACE, norm_layer),
            nn.ReLU(inplace=True),
            nn.MaxPool3d((1, 3, 3), stride=_HALVE_SPACE, padding=(0, 1, 1)),
        )
        self.layer1 = _stage(width, width, (1, 1), _KEEP, norm_layer)
        self.layer2 = _stage(width, 2 * width, (1, 1), _HALVE_SPACE, norm_layer)
        self.layer3 = _stage(2 * width, 4 * width, (3, 1), _HALVE_SPACE, norm_layer)
        self.layer4 = _stage(4 * width, 8 * width, (3, 1), _HALVE_SPACE, norm_layer)
        he_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor:
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(clips)))))
        return features


class _Block(nn.Module):
    """Two convolutions, `times` frames long, beside a shortcut that is one too where the shape changes."""

    def __init__(self, inputs: int, outputs: int, times: tuple[int, int], stride: Size, norm_layer: NormLayer) -> None:
        super().__init__()
        first, second = times
        self.conv1 = nn.Sequential(
            *_convolution(inputs, outputs, (first, 3, 3), stride, norm_layer), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(*_convolution(outputs, outputs, (second, 3, 3), _KEEP, norm_layer))
        changes = inputs != outputs or stride != _KEEP
        self.downsample = (
            nn.Sequential(*_convolution(inputs, outputs, (1, 1, 1), stride, norm_layer)) if changes else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.downsample(x) + self.conv2(self.conv1(x)), inplace=True)


class _DilatedBlock(_Block):
    """Its first convolution looks two frames to either side."""

    def __init__(self, inputs: int, outputs: int, times: tuple[int, int], stride: Size, norm_layer: NormLayer) -> None:
        super().__init__(inputs, outputs, times, stride, norm_layer)
        self.conv1[0] = _dilated(inputs, outputs, stride)


class _LoneConvolutionBlock(_Block):
    """Nothing beside the shortcut but one dilated convolution."""

    def __init__(self, inputs: int, outputs: int, times: tuple[int, int], stride: Size, norm_layer: NormLayer) -> None:
        super().__init__(inputs, outputs, times, stride, norm_layer)
        self.conv1 = nn.Sequential(_dilated(inputs, outputs, stride))
        self.conv2 = nn.Sequential()


def _stage(
    inputs: int,
    outputs: int,
    times: tuple[int, int],
    stride: Size,
    norm_layer: NormLayer,
    first: type[_Block] = _Block,
) -> nn.Sequential:
    return nn.Sequential(
        first(inputs, outputs, times, stride, norm_layer), _Block(outputs, outputs, times, _KEEP, norm_layer)
    )


def _dilated(inputs: int, outputs: int, stride: Size) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, kernel_size=3, stride=stride, padding=(2, 1, 1), dilation=(2, 1, 1), bias=False)


def _convolution(inputs: int, outputs: int, kernel: Size, stride: Size, norm_layer: NormLayer) -> list[nn.Module]:
    time, height, width = kernel
    padding = (time // 2, height // 2, width // 2)
    return [nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False), norm_layer(outputs)]
