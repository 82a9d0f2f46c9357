"""Cycle consistency in time: from a frame to its soft nearest neighbour in another video, and back to where it began.

Source: TCC (Dwibedi et al., CVPR 2019, arXiv:1904.07846), section 3, as in CARL's public code.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Penalty = Literal["regression_mse_var", "regression_mse", "regression_huber", "classification"]
Similarity = Literal["l2", "cosine"]

_SMOOTHING = 0.1  # share of a frame's label that is spread over the other frames
_VARIANCE_WEIGHT = 0.001  # of the logarithm of the variance


def cycle_consistency(
    embeddings: Tensor,
    steps: Tensor,
    lengths: Tensor,
    *,
    penalty: Penalty = "regression_mse_var",
    similarity: Similarity = "l2",
    normalised_times: bool = True,
    temperature: float = 0.1,
    legacy_classification: bool = False,
) -> Tensor:
    """Mean penalty of all frames of all ordered pairs of sequences.

    Args:
        embeddings: (N, T, C), one sequence a row.
        steps: (N, T) source frames.
        lengths: (N,) frames of the videos.
        penalty: of where a frame comes back to: the squared error of its time over the variance of the way back
            (`regression_mse_var`), the squared error, Huber's, or the divergence from the frame itself
            (`classification`).
        similarity: negative squared distance, or the dot product (`cosine`, which it is for unit vectors).
        normalised_times: times are shares of the video, else frame numbers.
        temperature: divisor of similarities, which are divided by C too.
        legacy_classification: logits are taken for logarithms of probabilities, as in the original by mistake.

    Returns:
        Float32 scalar (float64 for such input).

    Raises:
        ValueError: fewer than two sequences, or of fewer than two frames.
    """
    if embeddings.ndim != 3 or min(embeddings.shape[:2]) < 2:
        raise ValueError(
            f"expected (N, T, C) embeddings of at least 2 sequences of 2 frames, got {tuple(embeddings.shape)}"
        )
    with torch.autocast(embeddings.device.type, enabled=False):
        sequences = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        count = len(sequences)
        first, second = (~torch.eye(count, dtype=torch.bool)).nonzero(as_tuple=True)  # ordered pairs of different ones
        logits = cycle_logits(sequences[first], sequences[second], similarity, temperature)  # (P, T, T)
        labels = smoothed_identity(logits.shape[-1], _SMOOTHING).to(logits)
        if penalty == "classification":
            logarithms = logits if legacy_classification else logits.log_softmax(dim=-1)
            return F.kl_div(logarithms, labels.expand_as(logits), reduction="none").mean()
        times = steps.to(logits.dtype)
        if normalised_times:
            times = times / lengths[:, None].to(logits.dtype)
        times = times[first][:, None]  # (P, 1, T)
        shares = logits.softmax(dim=-1)
        expected, found = (times * labels).sum(dim=-1), (times * shares).sum(dim=-1)  # (P, T) each
        if penalty == "regression_mse":
            return F.mse_loss(found, expected)
        if penalty == "regression_huber":
            return F.smooth_l1_loss(found, expected)
        variance = (shares * (times - found[..., None]).square()).sum(dim=-1)
        return ((expected - found).square() / variance + _VARIANCE_WEIGHT * variance.log()).mean()


def cycle_logits(one: Tensor, other: Tensor, similarity: Similarity, temperature: float) -> Tensor:
    """(P, T, C) and (P, S, C) -> (P, T, T): how alike a frame's neighbour in the other is to each frame of its own."""
    nearest = scaled_similarity(one, other, similarity, temperature).softmax(dim=-1) @ other
    return scaled_similarity(nearest, one, similarity, temperature)


def scaled_similarity(one: Tensor, other: Tensor, similarity: Similarity, temperature: float) -> Tensor:
    """(P, T, C) and (P, S, C) -> (P, T, S)."""
    products = one @ other.transpose(1, 2)
    if similarity == "l2":
        squares = one.square().sum(dim=-1)[..., None] + other.square().sum(dim=-1)[:, None]
        products = 2 * products - squares
    return products / one.shape[-1] / temperature


def smoothed_identity(count: int, smoothing: float) -> Tensor:
    """(count, count) labels: 1 - smoothing on the diagonal, the rest spread over the other columns."""
    spread = smoothing / (count - 1)
    return torch.full((count, count), spread, dtype=torch.float64).fill_diagonal_(1 - count * spread + spread)
