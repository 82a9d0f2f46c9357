"""Networks that see one frame at a time: a ResNet-50 under torchvision's names, and a tiny one of the same form.

They are run in parts, so that the lower ones may be frozen: part 0 is the stem, part n residual layer n.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from vssl.config import ConfigError
from vssl.nn.batchnorm import NormLayer, SyncBatchNorm, SyncBatchNorm3d


class FrameResNet50(nn.Module):
    """(B, 3, T, H, W) -> (B, 2048, T, H/32, W/32), each frame by itself; with 3 layers 1024 and H/16.

    Initial weights are torchvision's: He normal, with residual branches as they come. 23,508,032 parameters, 8,543,296
    of them without layer4.
    """

    def __init__(self, layers: int, norm_layer: NormLayer) -> None:
        super().__init__()
        whole = resnet50(norm_layer=frame_norm(norm_layer))
        self.conv1, self.bn1, self.relu, self.maxpool = whole.conv1, whole.bn1, whole.relu, whole.maxpool
        self.num_layers = layers
        for number in range(1, layers + 1):
            self.add_module(f"layer{number}", getattr(whole, f"layer{number}"))
        self.num_features = 128 * 2**layers

    def parts(self) -> list[Sequence[nn.Module]]:
        """The stem, then the layers; modules of a part are applied one after the other."""
        layers: list[Sequence[nn.Module]] = [
            [getattr(self, f"layer{number}")] for number in range(1, self.num_layers + 1)
        ]
        return [[self.conv1, self.bn1, self.relu, self.maxpool], *layers]

    def forward(self, clips: Tensor) -> Tensor:
        return _frame_by_frame(self.parts(), clips)


class TinyFrames(nn.Module):
    """(B, 3, T, H, W) -> (B, 8 * width, T, H/16, W/16), each side rounded up; with 3 layers half as many features."""

    def __init__(self, width: int, layers: int, norm_layer: NormLayer) -> None:
        super().__init__()
        norm = frame_norm(norm_layer)
        widths = (3, width, 2 * width, 2 * width, 4 * width, 8 * width)
        strides = (2, 2, 1, 2, 2)
        self.features = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(widths[n], widths[n + 1], kernel_size=3, stride=strides[n], padding=1, bias=False),
                norm(widths[n + 1]),
                nn.ReLU(),
            )
            for n in range(layers + 1)
        )
        self.num_features = widths[layers + 1]

    def parts(self) -> list[Sequence[nn.Module]]:
        """The stem, then the layers."""
        return [[part] for part in self.features]

    def forward(self, clips: Tensor) -> Tensor:
        return _frame_by_frame(self.parts(), clips)


def apply_parts(parts: Sequence[Sequence[nn.Module]], frames: Tensor) -> Tensor:
    """(N, C, H, W) through some of a network's parts."""
    for part in parts:
        for module in part:
            frames = module(frames)
    return frames


def frame_norm(norm_layer: NormLayer) -> NormLayer:
    """The normalisation of single frames' maps that goes with one of clips.

    Raises:
        ConfigError: groups of clips, which frames do not know of.
    """
    if norm_layer in (nn.BatchNorm3d, SyncBatchNorm3d):
        return SyncBatchNorm
    raise ConfigError(
        "backbones of single frames normalise over the global batch; set bn_group_size to null, or take another "
        "backbone than frame_resnet50 and tiny_frames"
    )


def _frame_by_frame(parts: Sequence[Sequence[nn.Module]], clips: Tensor) -> Tensor:
    maps = apply_parts(parts, clips.transpose(1, 2).flatten(0, 1))  # (B T, C, h, w)
    return torch.unflatten(maps, 0, (len(clips), -1)).transpose(1, 2)
