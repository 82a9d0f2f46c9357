"""R(2+1)D with one residual block per layer: the ten-layer variant that CoCLR and ViCC evaluate.

Source: Tran et al., CVPR 2018 (arXiv:1711.11248), with the sizes of ViCC's public code. It is not torchvision's
`r2plus1d_18`, which has two blocks per layer and another stem.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from vssl.nn.batchnorm import NormLayer

Size = tuple[int, int, int]  # time, height, width

_WIDTHS = (64, 64, 128, 256, 512)  # of the stem and the four layers


class R2Plus1D(nn.Module):
    """(B, 3, T, H, W) -> (B, 512, 1, 1, 1): it ends with a global average pool. 14,365,303 parameters.

    Initial weights are PyTorch's defaults, as in ViCC's code.
    """

    num_features = _WIDTHS[-1]

    def __init__(self, norm_layer: NormLayer) -> None:
        super().__init__()
        self.stem = _Factored(3, _WIDTHS[0], (3, 7, 7), norm_layer, stride=(1, 2, 2), padding=(1, 3, 3))
        self.stem_norm = norm_layer(_WIDTHS[0])
        self.layers = nn.Sequential(
            *(
                _Residual(inputs, outputs, norm_layer, downsample=inputs != outputs)
                for inputs, outputs in pairwise(_WIDTHS)
            )
        )

    def forward(self, clips: Tensor) -> Tensor:
        features: Tensor = self.layers(F.relu(self.stem_norm(self.stem(clips))))
        return features.mean(dim=(2, 3, 4), keepdim=True)


class _Factored(nn.Module):
    """A spatial and a temporal convolution with as many weights together as the 3D convolution that they replace."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Size,
        norm_layer: NormLayer,
        *,
        stride: Size = (1, 1, 1),
        padding: Size = (0, 0, 0),
    ) -> None:
        super().__init__()
        time, area = kernel[0], kernel[1] * kernel[2]
        middle = time * area * inputs * outputs // (area * inputs + time * outputs)
        self.spatial = nn.Conv3d(
            inputs, middle, (1, *kernel[1:]), stride=(1, *stride[1:]), padding=(0, *padding[1:]), bias=False
        )
        self.norm = norm_layer(middle)
        self.temporal = nn.Conv3d(
            middle, outputs, (time, 1, 1), stride=(stride[0], 1, 1), padding=(padding[0], 0, 0), bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.temporal(F.relu(self.norm(self.spatial(x))))
        return output


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, norm_layer: NormLayer, *, downsample: bool) -> None:
        super().__init__()
        stride = (2, 2, 2) if downsample else (1, 1, 1)
        if downsample:
            self.shortcut: nn.Module = nn.Sequential(
                _Factored(inputs, outputs, (1, 1, 1), norm_layer, stride=stride), norm_layer(outputs)
            )
        else:
            self.shortcut = nn.Identity()
        self.conv1 = _Factored(inputs, outputs, (3, 3, 3), norm_layer, stride=stride, padding=(1, 1, 1))
        self.norm1 = norm_layer(outputs)
        self.conv2 = _Factored(outputs, outputs, (3, 3, 3), norm_layer, padding=(1, 1, 1))
        self.norm2 = norm_layer(outputs)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(self.shortcut(x) + residual)
