"""A target network as the moving average of an online one (BYOL, arXiv:2006.07733, section 3.1)."""

import math

import torch
from torch import nn


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
