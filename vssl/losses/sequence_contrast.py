"""Sequence contrast: frames of two views of one video are pulled together as far as they are close in its time.

The similarities of a frame to the frames of the other view, as a softmax, are to follow a Gaussian around its own time.
Source: CARL (Chen et al., CVPR 2022, arXiv:2203.14957), section 3.3, and its public code.
"""

from typing import Literal

import torch
from torch import Tensor

Negatives = Literal["single_noself", "single", "batch_noself", "batch"]

_FLOOR = 1e-6  # added to probabilities before their logarithm, as in the original


def sequence_contrast(
    embeddings: Tensor,
    steps: Tensor,
    lengths: Tensor,
    mask: Tensor,
    *,
    variance: float = 10.0,
    temperature: float = 0.1,
    negatives: Negatives = "single_noself",
    masked_weight: float = 1e-6,
    zero_rows: bool = True,
) -> Tensor:
    """Mean over the frames of both views of KL(Gaussian in time || softmax over the other view).

    Both directions count, and both views receive gradients.

    Args:
        embeddings: (B, 2, T, C) unit vectors.
        steps: (B, 2, T) source frames.
        lengths: (B, 2) frames of the videos that the views show.
        mask: (B, 2, T) whether a slot shows a frame of its own.
        variance, zero_rows: see `gaussian_targets`.
        temperature: divisor of the cosines.
        negatives: what stands in the denominator beside the other view: nothing (`single_noself`), the frame's own view
            (`single`), all views of the other videos (`batch_noself`), or both (`batch`).
        masked_weight: share by which masked slots of all videos, and all views, count in every denominator. The
            original's 1e-6 hardly moves the loss; 0 keeps them out of it.

    Returns:
        Float32 scalar (float64 for such input), at least 0 up to the floor under probabilities.

    Raises:
        ValueError: shapes that do not belong together, or no slot that shows a frame.
    """
    if embeddings.ndim != 4 or embeddings.shape[1] != 2 or steps.shape != embeddings.shape[:3]:
        raise ValueError(
            f"expected (B, 2, T, C) embeddings with (B, 2, T) steps, got {tuple(embeddings.shape)} and "
            f"{tuple(steps.shape)}"
        )
    if not mask.any():
        raise ValueError("no slot shows a frame; draw views that begin inside the video")
    with torch.autocast(embeddings.device.type, enabled=False):
        unit = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        targets = gaussian_targets(steps, lengths, mask, variance, zero_rows=zero_rows).to(unit.dtype)
        similarity = unit @ unit.flip(1).transpose(2, 3) / temperature  # (B, 2, T, T), to the other view
        denominator = log_denominators(unit, mask, temperature, negatives, masked_weight)
        shares = (similarity - denominator[..., None]).exp()
        divergence = torch.xlogy(targets, targets) - targets * (shares + _FLOOR).log()
        return divergence.sum() / mask.sum()


def gaussian_targets(
    steps: Tensor, lengths: Tensor, mask: Tensor, variance: float, *, zero_rows: bool = True
) -> Tensor:
    """What each frame's similarities to the other view are to be: (B, 2, T, T), rows of view v, columns of view 1 - v.

    Rows sum to 1; those of masked slots are 0, and so are masked columns.

    Args:
        steps, lengths, mask: as of `sequence_contrast`.
        variance: of the Gaussian, in frames squared.
        zero_rows: a row whose frame is so far from the whole other view that float32 holds no weight (45 frames at a
            variance of 10) is 0 and counts nothing, as in the original; else its weight goes to what is nearest.
    """
    theirs = lengths.flip(1)[..., None, None].float()
    here = steps[..., None].float() / lengths[..., None, None].float() * theirs  # (B, 2, T, 1), in the other's frames
    exponent = -((here - steps.flip(1)[:, :, None, :].float()) ** 2) / (2 * variance)
    pairs = mask[..., None] & mask.flip(1)[:, :, None, :]
    if not zero_rows:
        exponent = exponent - exponent.masked_fill(~pairs, -torch.inf).amax(dim=3, keepdim=True)
    weights = exponent.exp().masked_fill(~pairs, 0)
    return (weights / weights.sum(dim=3, keepdim=True)).nan_to_num(0)  # 0 / 0: no weight at all


def log_denominators(
    unit: Tensor, mask: Tensor, temperature: float, negatives: Negatives, masked_weight: float
) -> Tensor:
    """(B, 2, T) logarithms of the sums of exp(cosine / temperature) that frames are compared with."""
    videos, views, slots, _ = unit.shape
    video, view = (
        torch.arange(count, device=unit.device).view(shape).expand(videos, views, slots).reshape(-1)
        for count, shape in ((videos, (-1, 1, 1)), (views, (1, -1, 1)))
    )
    own_video = video[:, None] == video[None]
    own_view = own_video & (view[:, None] == view[None])
    counted = own_video if negatives.startswith("single") else torch.ones_like(own_video)
    if negatives.endswith("noself"):
        counted = counted & ~own_view
    shown = mask.reshape(-1)
    weights = torch.where(shown[:, None] & shown[None], counted.to(unit.dtype), masked_weight)
    weights = torch.where(weights.any(dim=1, keepdim=True), weights, 1)  # a row that nothing is compared with
    rows = unit.reshape(len(shown), -1)
    return torch.logsumexp(rows @ rows.T / temperature + weights.log(), dim=1).view(videos, views, slots)
