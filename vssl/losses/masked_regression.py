"""Mean squared distance of predictions from targets, where something was hidden."""

import torch
from torch import Tensor

_EPS = 1e-5  # in place of a count of 0


def masked_regression(prediction: Tensor, target: Tensor, weight: Tensor, count: Tensor | None = None) -> Tensor:
    """Squared distances of patches, averaged over those that count.

    Args:
        prediction: (..., D).
        target: (..., D); receives no gradient.
        weight: (...), 1 where a patch counts, else 0.
        count: what the sum is divided by; None: the sum of the weights. A rank of several gives the mean over ranks.

    Returns:
        Float32 scalar.

    Raises:
        ValueError: shapes that differ.

    Source: MaskFeat (Wei et al., CVPR 2022, arXiv:2112.09133), as VideoTransformer-pytorch has it.
    """
    if prediction.shape != target.shape or weight.shape != target.shape[:-1]:
        raise ValueError(
            f"prediction is {tuple(prediction.shape)}, target {tuple(target.shape)} and weight {tuple(weight.shape)}; "
            "expected (..., D), the same and (...)"
        )
    distance = (prediction.to(torch.promote_types(prediction.dtype, torch.float32)) - target.detach()).square().mean(-1)
    return (weight * distance).sum() / ((weight.sum() if count is None else count) + _EPS)
