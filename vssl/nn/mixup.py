"""Mixup and cutmix of a batch with itself reversed, soft targets, and the accuracy of what was mixed.

Sources: mixup (Zhang et al., arXiv:1710.09412) and cutmix (Yun et al., arXiv:1905.04899), as the public codes of
FGKVMem (Li et al., ACM Multimedia 2023), PySlowFast and VideoTransformer have them.
"""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from vssl.nn.mixup_config import MixupConfig

_TOP5 = 5


@dataclass(frozen=True)
class Mix:
    """What was drawn for a batch.

    `share` is what remains of a clip itself, the rest comes from its partner: everywhere by addition, or, where there
    is a box (top, bottom, left, right), as its pixels in every frame.
    """

    share: float
    box: tuple[int, int, int, int] | None = None


def draw_mix(config: MixupConfig, height: int, width: int, generator: Generator) -> Mix:
    """One draw for a batch of clips of this size, in the published order: mixed?, cutmix?, share, box row, box column.

    The generator is numpy's, for its Beta distribution: torch's takes none.
    """
    if generator.random() >= config.probability:
        return Mix(1.0)
    cutmix = config.mixup_alpha == 0
    if config.mixup_alpha and config.cutmix_alpha:
        cutmix = generator.random() < config.cutmix_probability
    alpha = config.cutmix_alpha if cutmix else config.mixup_alpha
    share = generator.beta(alpha, alpha)
    if not cutmix:
        return Mix(share)
    row, column = int(generator.integers(height)), int(generator.integers(width))
    return boxed(share, row, column, height, width)


def boxed(share: float, row: int, column: int, height: int, width: int) -> Mix:
    """A box around a pixel that leaves about this share of the frame; what it leaves within the frame is exact.

    A box of an odd side loses a pixel, as in the original.
    """
    side = math.sqrt(1 - share)
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    top, bottom = max(row - half_height, 0), min(row + half_height, height)
    left, right = max(column - half_width, 0), min(column + half_width, width)
    area = (bottom - top) * (right - left)
    return Mix(1 - area / (height * width), (top, bottom, left, right))


def mixed(clips: Tensor, partners: Tensor, mix: Mix) -> Tensor:
    """Mix clips with their partners.

    Args:
        clips: (B, 3, T, H, W).
        partners: of the same shape; of one batch, itself reversed.
        mix: what was drawn; its box is the same in all frames.
    """
    if mix.box is None:
        return clips * mix.share + partners * (1 - mix.share)
    top, bottom, left, right = mix.box
    result = clips.clone()
    result[..., top:bottom, left:right] = partners[..., top:bottom, left:right]
    return result


def soft_targets(labels: Tensor, partners: Tensor, mix: Mix, *, num_classes: int, smoothing: float) -> Tensor:
    """Labels of mixed clips.

    Args:
        labels: (B,) of the clips.
        partners: (B,) of their partners.
        mix: what was drawn.
        num_classes: C.
        smoothing: share of every label that is spread evenly over all classes.

    Returns:
        (B, C) float32, rows sum to 1: what `F.cross_entropy` takes as probabilities.
    """
    own, other = (F.one_hot(one, num_classes).float() for one in (labels, partners))
    return (own * mix.share + other * (1 - mix.share)) * (1 - smoothing) + smoothing / num_classes


def mixed_hits(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Top-1 and top-5 hits of mixed clips: the second label's score counts for the first, which is the larger.

    Where the second largest target is a tie, any one of the tied classes is taken, as in the original.

    Args:
        logits: (B, C); receive no gradient.
        targets: (B, C) from `soft_targets`.

    Returns:
        `accuracy` and `top5`, shares of the batch.
    """
    top = targets.topk(2, dim=1).indices
    first, second = top[:, :1], top[:, 1:]
    scores = logits.detach()
    scores = scores.scatter_add(1, first, scores.gather(1, second)).scatter(1, second, 0.0)
    found = scores.topk(min(_TOP5, scores.shape[1]), dim=1).indices == first  # (B, 5)
    return {"accuracy": found[:, :1].any(dim=1).double().mean(), "top5": found.any(dim=1).double().mean()}
