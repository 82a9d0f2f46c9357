"""The regression of BYOL (arXiv:2006.07733, section 3.1): a pure function."""

import torch.nn.functional as F
from torch import Tensor


def cosine_regression(prediction: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Minus the mean cosine of predictions and targets, divided by a temperature.

    At temperature 0.5 it is BYOL's squared distance of unit vectors, 2 - 2 cos, without the constant.

    Args:
        prediction: (B, D) of the online network; carries the gradient.
        target: (B, D) of the target network; receives none.
        temperature: divisor; PySlowFast's contrastive models and FGKVMem use 0.5.

    Returns:
        Scalar in [-1 / temperature, 1 / temperature].

    Raises:
        ValueError: shapes differ or are not (B, D); broadcasting would hide a wiring mistake.
    """
    if prediction.ndim != 2 or prediction.shape != target.shape:
        raise ValueError(
            f"expected two equal (B, D) tensors, got {tuple(prediction.shape)} and {tuple(target.shape)}; pool and "
            "project features first"
        )
    cosine = (F.normalize(prediction, dim=1) * F.normalize(target.detach(), dim=1)).sum(dim=1)
    return -cosine.mean() / temperature
