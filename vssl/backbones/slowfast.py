"""SlowFast-50: a wide path that sees few frames, and a narrow one that sees all and tells the other of them.

Source: Feichtenhofer et al., ICCV 2019 (arXiv:1812.03982), as STS (Li et al., ECCV 2022) has it.
"""

import torch
from torch import Tensor, nn

from vssl.backbones.bottleneck import temporal_stages
from vssl.backbones.conv_unit import ConvUnit, alone, convolution, stem_pool
from vssl.nn.batchnorm import NormLayer
from vssl.nn.initial import he_convolutions

_THINNER = 8  # channels of the slow path per channel of the fast one
_LATERAL = 2  # channels that a lateral convolution makes of one


class SlowFast50(nn.Module):
    """(B, 3, T, H, W) -> (B, 36 width, 1, 1, 1): both paths' means over time and space, the fast one's first.

    The fast path's are the first 4 `width`, as in the head of the public code's fine-tuning; in its pre-training on
    images they are the last.

    Args:
        width: channels of the slow path's stem; 64 as published. The fast path's: an eighth of it.
        speed: frames of the fast path per frame of the slow one. 8 in 4x16 (33,557,288 parameters at width 64), 4 in
            8x8 (33,643,560).
        lateral: length of the lateral convolutions, frames: 5 in 4x16, 7 in 8x8.
        norm_layer: number of channels -> normalisation layer.
    """

    def __init__(self, width: int, speed: int, lateral: int, norm_layer: NormLayer) -> None:
        super().__init__()
        fast = width // _THINNER
        self.speed = speed
        self.slow_path = _Path(
            width, (1, 1, 3, 3), 1, tuple(_LATERAL * channels for channels in _outputs(fast)[:4]), norm_layer
        )
        self.fast_path = _Path(fast, (3, 3, 3, 3), 5, (0, 0, 0, 0), norm_layer)
        for name, channels in zip(_LATERALS, _outputs(fast)):
            along = nn.Conv3d(
                channels,
                _LATERAL * channels,
                (lateral, 1, 1),
                stride=(speed, 1, 1),
                padding=(lateral // 2, 0, 0),
                bias=False,
            )
            self.slow_path.add_module(name, alone(along))
        self.num_features = _outputs(width)[4] + _outputs(fast)[4]
        he_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor:
        slow, fast = self.paths(clips)
        return torch.cat([path.mean(dim=(2, 3, 4), keepdim=True) for path in (fast, slow)], dim=1)

    def paths(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 32 width, T / speed, H/32, W/32) of the slow path and (B, 4 width, T, H/32, W/32) of the fast one."""
        slow, fast = self.slow_path.start(clips[:, :, :: self.speed]), self.fast_path.start(clips)
        for name, slow_stage, fast_stage in zip(_LATERALS, self.slow_path.stages(), self.fast_path.stages()):
            slow = torch.cat([slow, self.slow_path.get_submodule(name)(fast)], dim=1)
            slow, fast = slow_stage(slow), fast_stage(fast)
        return slow, fast


_LATERALS = ("conv1_lateral", "layer1_lateral", "layer2_lateral", "layer3_lateral")  # before each stage


class _Path(nn.Module):
    """Stem and four stages."""

    def __init__(
        self, width: int, times: tuple[int, ...], stem_time: int, extra: tuple[int, ...], norm_layer: NormLayer
    ) -> None:
        super().__init__()
        self.conv1 = ConvUnit(convolution(3, width, (stem_time, 7, 7), stride=2), width, norm_layer)
        self.maxpool = stem_pool()
        self.layer1, self.layer2, self.layer3, self.layer4 = temporal_stages(
            width, times, extra, norm_layer, drops_shortcut=False
        )

    def start(self, clips: Tensor) -> Tensor:
        pooled: Tensor = self.maxpool(self.conv1(clips))
        return pooled

    def stages(self) -> tuple[nn.Module, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4


def _outputs(width: int) -> list[int]:
    """Channels after the stem and after each stage."""
    return [width, 4 * width, 8 * width, 16 * width, 32 * width]
