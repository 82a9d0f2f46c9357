"""The STS convolution: a 3D convolution of which half of the channels read their temporal taps inside a frame.

After pre-training on images, the outer taps of a temporal kernel have never seen another frame. So the first half of
the output channels, the static one, reads along the frame's rows and columns with them; the second, dynamic half
remains an ordinary 3D convolution. Weights, their names and the work stay those of the plain convolution.

The published form lays a frame out as one line, row by row or column by column. Its windows therefore go on at the end
of a row with the next one, and of a strided convolution they lie elsewhere than the plain taps do. It is the default,
because published numbers were trained with it; `aligned` reads true rows and columns, centred on the same pixels as the
plain taps, and zero beyond the frame.

Source: Li et al., ECCV 2022 (arXiv:2205.01721), and its public code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int, int]  # time, height, width


class STSConv3d(nn.Conv3d):
    """A convolution without bias that is plain until `set_sts` makes it STS; it may be switched at any time.

    Depthwise ones are 3 x 3 x 3, dense ones k x 1 x 1; of a dense one with k = 1 both are the same. Time is not
    strided.

    Raises:
        ValueError: a shape that STS is not defined for.
    """

    def __init__(self, inputs: int, outputs: int, kernel: Size, *, stride: int = 1, groups: int = 1) -> None:
        time, height, width = kernel
        padding = (time // 2, height // 2, width // 2)
        super().__init__(
            inputs, outputs, kernel, stride=(1, stride, stride), padding=padding, groups=groups, bias=False
        )
        if groups > 1 and (kernel != (3, 3, 3) or groups % 2 or outputs % 2):
            raise ValueError(f"a grouped STS convolution is 3x3x3 with even groups, got {kernel} and {groups} groups")
        if groups == 1 and (height, width, stride, time % 2) != (1, 1, 1, 1):
            raise ValueError(f"a dense STS convolution is kx1x1 of stride 1 with an odd k, got {kernel}")
        if groups == 1 and time > 1 and outputs % 4:
            raise ValueError(f"a dense STS convolution divides its outputs into quarters, got {outputs} outputs")
        self.sts = self.aligned = False

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, D, T, H/s, W/s)"""
        if not self.sts or self.kernel_size[0] == 1:
            return super().forward(input)
        if self.groups > 1:
            return sts_depthwise(input, self.weight, self.stride[1], self.groups, aligned=self.aligned)
        return sts_temporal(input, self.weight, aligned=self.aligned)


def set_sts(network: nn.Module, on: bool, *, aligned: bool = False) -> None:
    """Switch all STS convolutions of a network on or off; no weight changes."""
    for module in network.modules():
        if isinstance(module, STSConv3d):
            module.sts, module.aligned = on, aligned


def sts_depthwise(x: Tensor, weight: Tensor, stride: int, groups: int, *, aligned: bool = False) -> Tensor:
    """The STS form of a grouped 3 x 3 x 3 convolution.

    The static half is the sum of a 3 x 3 convolution by the middle tap, and of two of 9 pixels: along rows by the first
    tap, along columns by the last.

    Args:
        x: (B, C, T, H, W).
        weight: (D, C / groups, 3, 3, 3).
        stride: of height and width.
        groups: even; half of them are static.
        aligned: see the module.

    Returns:
        (B, D, T, H / stride, W / stride), the static channels first.

    Raises:
        ValueError: height or width is no multiple of the stride.
    """
    height, width = x.shape[-2:]
    if height % stride or width % stride:
        raise ValueError(
            f"feature maps of {height}x{width} meet an STS convolution of stride {stride}, which needs even sides; "
            "choose a data.crop_size whose halves stay even (a multiple of 32), or set backbone.sts=false"
        )
    static, dynamic = x.chunk(2, dim=1)
    static_weight, dynamic_weight = weight.chunk(2)
    half = groups // 2
    moving = F.conv3d(dynamic, dynamic_weight, stride=(1, stride, stride), padding=1, groups=half)
    frames = _frames(static)  # (B T, C / 2, H, W)
    first, middle, last = static_weight.unbind(2)  # (D / 2, C / groups, 3, 3) each
    row, column = first.flatten(2), last.flatten(2)  # (D / 2, C / groups, 9)
    still = F.conv2d(frames, middle, stride=stride, padding=1, groups=half)
    still = still + _along_rows(frames, row, stride, half, aligned)
    still = still + _along_columns(frames, column, stride, half, aligned)
    return torch.cat([_clips(still, len(x)), moving], dim=1)


def sts_temporal(x: Tensor, weight: Tensor, *, aligned: bool = False) -> Tensor:
    """The STS form of a dense k x 1 x 1 convolution.

    The first quarter of the outputs reads k pixels along rows, the second k along columns, the rest k frames; all read
    every input channel.

    Args:
        x: (B, C, T, H, W).
        weight: (D, C, k, 1, 1), D a multiple of 4 and k odd.
        aligned: see the module.

    Returns:
        (B, D, T, H, W): by rows, by columns, over time.
    """
    static_weight, dynamic_weight = weight.chunk(2)
    moving = F.conv3d(x, dynamic_weight, padding=(weight.shape[2] // 2, 0, 0))
    row, column = static_weight.flatten(2).chunk(2)  # (D / 4, C, k)
    frames = _frames(x)
    still = [_along_rows(frames, row, 1, 1, aligned), _along_columns(frames, column, 1, 1, aligned)]
    return torch.cat([*(_clips(one, len(x)) for one in still), moving], dim=1)


def _frames(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B T, C, H, W)"""
    return x.transpose(1, 2).flatten(0, 1)


def _clips(frames: Tensor, clips: int) -> Tensor:
    """(B T, D, H, W) -> (B, D, T, H, W)"""
    return frames.view(clips, -1, *frames.shape[1:]).transpose(1, 2)


def _along_rows(frames: Tensor, weight: Tensor, stride: int, groups: int, aligned: bool) -> Tensor:
    """(N, C, H, W) by (D, C / groups, k) -> (N, D, H / stride, W / stride)"""
    height, width = frames.shape[-2:]
    reach = weight.shape[2] // 2
    if aligned:
        return F.conv2d(frames, weight[:, :, None], stride=stride, padding=(0, reach), groups=groups)
    line = F.conv1d(frames.flatten(2), weight, stride=stride**2, padding=reach, groups=groups)
    return line.view(*line.shape[:2], height // stride, width // stride)


def _along_columns(frames: Tensor, weight: Tensor, stride: int, groups: int, aligned: bool) -> Tensor:
    return _along_rows(frames.mT, weight, stride, groups, aligned).mT
