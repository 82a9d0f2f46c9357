"""Swapped prediction (SwAV, arXiv:2006.09882, section 3; ViCC, arXiv:2106.10137, section 3): pure functions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vssl.distributed import all_gather_cat, world_size


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Soft assignments of samples to prototypes that use all prototypes equally: `iterations` Sinkhorn rounds.

    Samples of all ranks are balanced together, so the result equals that of one process on the concatenation. The work
    is done on logarithms: unlike the original's exp(scores / epsilon), nothing overflows for scores of any size, and
    the global factors 1/C and 1/N of the rounds, which the last normalisation takes out again, are never multiplied in.

    Args:
        scores: (N, C) similarities of this rank's N samples with the C prototypes.
        epsilon: smoothness of the assignment; smaller is sharper.
        iterations: rounds; 0 is a softmax per sample.

    Returns:
        Float32 (N, C), each row a distribution over prototypes; no gradient.
    """
    log = scores.float() / epsilon
    for _ in range(iterations):
        log = log - _logsumexp_over_samples(log)
        log = log - torch.logsumexp(log, dim=1, keepdim=True)
    return torch.softmax(log, dim=1)


def _logsumexp_over_samples(log: Tensor) -> Tensor:
    local = torch.logsumexp(log, dim=0, keepdim=True)  # (1, C)
    if world_size() == 1:
        return local
    return torch.logsumexp(all_gather_cat(local), dim=0, keepdim=True)


def swapped_prediction(
    scores: Sequence[Tensor], assignments: Sequence[Tensor], assigning_views: Sequence[int], temperature: float
) -> Tensor:
    """Cross-entropy of each assigning view's assignment against the prediction from every other view.

    Args:
        scores: V tensors (B, C), the prototype scores of each view; they carry the gradient.
        assignments: one (B, C) per assigning view, rows summing to 1; no gradient flows into them.
        assigning_views: the view that each assignment belongs to.
        temperature: divisor of the scores before the softmax.

    Returns:
        Float32 scalar: mean over assigning views of the mean over the V - 1 other views of the mean over samples.
        ln C where either side is uniform and balanced.

    Raises:
        ValueError: fewer than two views, or another number of assignments than of assigning views.
    """
    if len(scores) < 2 or len(assignments) != len(assigning_views):
        raise ValueError(
            f"got {len(scores)} views, {len(assignments)} assignments and assigning views {list(assigning_views)}; "
            "swapped prediction takes at least two views and one assignment per assigning view"
        )
    log_predictions = [F.log_softmax(s.float() / temperature, dim=1) for s in scores]
    terms = [
        -(assignment.detach() * log_prediction).sum(dim=1).mean()
        for assignment, assigning in zip(assignments, assigning_views, strict=True)
        for view, log_prediction in enumerate(log_predictions)
        if view != assigning
    ]
    return torch.stack(terms).mean()  # every assigning view has the same number of terms


def entropy(distribution: Tensor) -> Tensor:
    """Entropy in nats along the last axis of (..., C)."""
    return -torch.xlogy(distribution, distribution).sum(dim=-1)
