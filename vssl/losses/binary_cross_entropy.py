"""One yes or no per class in place of one choice among all: what images are pretrained with in STS."""

import torch.nn.functional as F
from torch import Tensor


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over samples and classes of the cross-entropy between a class's sigmoid and its target.

    Args:
        logits: (B, C).
        targets: (B, C) from 0 to 1, as `soft_targets` gives them.

    Returns:
        Float scalar, at least 0.

    Raises:
        ValueError: shapes differ.

    Source: "ResNet strikes back" (Wightman et al., arXiv:2110.00476), as in STS (Li et al., ECCV 2022).
    """
    if logits.shape != targets.shape:
        raise ValueError(f"logits are {tuple(logits.shape)} and targets {tuple(targets.shape)}; expected both (B, C)")
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits))
