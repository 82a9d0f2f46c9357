"""A target network as the moving average of an online one (BYOL, arXiv:2006.07733, section 3.1)."""

import copy
import math
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def ema_decay(progress: float, start: float) -> float:
    """Decay per step, which rises from `start` to 1 along half a cosine.

    Args:
        progress: share of the training that is done, 0 to 1.
        start: decay at the beginning, 0 to 1.
    """
    return 1 - (1 - start) * (1 + math.cos(math.pi * progress)) / 2


@torch.no_grad()
def move_towards(target: nn.Module, online: nn.Module, decay: float) -> None:
    """target <- decay * target + (1 - decay) * online, for parameters alone.

    Buffers are left: the target normalises its own batches and keeps its own running statistics.
    """
    for average, newest in zip(target.parameters(), online.parameters(), strict=True):
        average.lerp_(newest, 1 - decay)


def averaged(network: Network) -> Network:
    """A copy that no gradient reaches, which a moving average begins at."""
    return copy.deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def move_state_towards(average: nn.Module, network: nn.Module, decay: float) -> None:
    """As `move_towards`, for running statistics too; counts of batches are taken over.

    For an average that is only ever evaluated: it has no batches of its own. As in timm.
    """
    newest = network.state_dict()
    for name, kept in average.state_dict().items():
        if kept.is_floating_point():
            kept.lerp_(newest[name], 1 - decay)
        else:
            kept.copy_(newest[name])
