"""Residual blocks, and stages of them, as all backbones of STS have them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from vssl.nn.drop_path import DropPath


class ResidualBlock(nn.Module):
    """Layers one after another, the branch, beside a shortcut, which is a convolution where the shape changes.

    Args:
        branch: layers by the public code's names; the last one is a `ConvUnit`.
        downsample: the shortcut; None: the input itself.
        drop_share: of the network's rate of stochastic depth.
        drops_shortcut: the public code's images drop paths here, where the input of a changing shortcut is dropped.
    """

    def __init__(
        self,
        branch: Mapping[str, nn.Module],
        downsample: nn.Module | None,
        *,
        drop_share: float,
        drops_shortcut: bool = False,
    ) -> None:
        super().__init__()
        self._branch = tuple(branch)
        for name, layer in branch.items():
            self.add_module(name, layer)
        self.downsample = downsample
        self.drop_path = DropPath(drop_share)
        changes = downsample is not None
        self.drop_shortcut = DropPath(drop_share, "shortcut") if changes and drops_shortcut else nn.Identity()

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation that ends the branch."""
        last: Any = self.get_submodule(self._branch[-1])
        norm: nn.Module = last.bn
        return norm

    def forward(self, x: Tensor) -> Tensor:
        branch = x
        for name in self._branch:
            branch = self.get_submodule(name)(branch)
        shortcut = x if self.downsample is None else self.downsample(self.drop_shortcut(x))
        return F.relu(self.drop_path(branch) + shortcut)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a block stands in a network, and what follows from it."""

    stage: int
    number: int  # in its stage
    inputs: int  # channels
    outputs: int
    stride: int  # of height and width
    drop_share: float  # of the rate of stochastic depth: none of the first block, all of the last


def residual_stages(
    depths: Sequence[int],
    width: int,
    block: Callable[[Place], nn.Module],
    *,
    expansion: int = 1,
    strides: Sequence[int] = (1, 2, 2, 2),
) -> list[nn.Sequential]:
    """Stages, each of twice as many channels as the one before it.

    Args:
        depths: blocks of each stage.
        width: channels of the stem.
        block: its place -> a block.
        expansion: outputs of the first stage per channel of the stem.
        strides: of each stage's first block; the others have none.
    """
    stages, inputs = [], width
    for stage, depth in enumerate(depths):
        outputs, before = expansion * width * 2**stage, sum(depths[:stage])
        blocks = []
        for number in range(depth):
            place = Place(
                stage=stage,
                number=number,
                inputs=inputs,
                outputs=outputs,
                stride=1 if number else strides[stage],
                drop_share=(before + number) / (sum(depths) - 1),
            )
            blocks.append(block(place))
            inputs = outputs
        stages.append(nn.Sequential(*blocks))
    return stages
