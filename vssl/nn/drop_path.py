"""Stochastic depth: residual branches that some samples of a training step go without.

Source: Huang et al., ECCV 2016 (arXiv:1603.09382), in the form that image networks use: sample by sample, and scaled
up where a branch is kept.
"""

from typing import Literal

import torch
from torch import Generator, Tensor, nn

from vssl.distributed import rank, world_size

Place = Literal["branch", "shortcut"]


class DropPath(nn.Module):
    """Leaves a branch out for some samples, in training; nothing as long as its rate is 0.

    Which samples is drawn beforehand by `draw_paths`, for the global batch, so that neither ranks nor restarts change
    it. A batch of several rows per sample, side by side, loses all rows of a sample together.

    Args:
        share: of the network's rate that this branch has; it grows with depth as a rule.
        place: what it stands on. STS's public code drops shortcuts where branches were meant.
    """

    def __init__(self, share: float = 1.0, place: Place = "branch") -> None:
        super().__init__()
        self.share, self.place = share, place
        self.rate = 0.0
        self._kept: Tensor | None = None

    def forward(self, branch: Tensor) -> Tensor:
        """(n * B, ...) -> the same, of samples that are kept divided by the probability of it, of others 0."""
        if not self.training or self.rate == 0:
            return branch
        if self._kept is None:
            raise RuntimeError("a branch is to be dropped and nothing was drawn; call draw_paths before the forward")
        kept = self._kept.to(branch).repeat_interleave(len(branch) // len(self._kept))
        return branch * kept.view(-1, *[1] * (branch.ndim - 1))

    def draw(self, kept: Tensor) -> None:
        """Take (B,) booleans: the samples of the next forwards that have the branch."""
        self._kept = kept.double() / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}, place={self.place}"


def set_drop_path(network: nn.Module, rate: float, place: Place = "branch") -> None:
    """Give every `DropPath` of a network its share of a rate, and those at the other place none."""
    for module in network.modules():
        if isinstance(module, DropPath):
            module.rate = rate * module.share if module.place == place else 0.0


def draw_paths(network: nn.Module, local: int, generator: Generator) -> None:
    """Draw for one training step which samples lose which branches.

    Args:
        network: of which every `DropPath` has its rate.
        local: B, samples of this rank.
        generator: of the step; equal on all ranks.
    """
    for module in network.modules():
        if isinstance(module, DropPath) and module.rate > 0:
            drawn = torch.rand(local * world_size(), generator=generator)
            module.draw(drawn[rank() * local : (rank() + 1) * local] >= module.rate)
