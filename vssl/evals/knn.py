"""Class scores of a weighted vote of nearest neighbours. Pure functions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vssl.evals.features import unit


def knn_scores(
    queries: Tensor, bank: Tensor, labels: Tensor, *, num_classes: int, k: int = 200, temperature: float = 0.5
) -> Tensor:
    """The k nearest vectors of a bank vote for their classes, each with exp(cosine / temperature).

    Args:
        queries: (Q, D), of any length.
        bank: (N, D), of any length.
        labels: (N,) class indices of the bank.
        num_classes: C, whatever classes the bank has; the original takes a number from another config.
        k: neighbours; more than N means N.
        temperature: divisor of the cosine.

    Returns:
        (Q, C) float32, larger is likelier.

    Raises:
        ValueError: shapes that do not belong together, or a label that is none of the classes.

    Source: Wu et al., arXiv:1805.01978, as FGKVMem (Li et al., ACM Multimedia 2023) watches its pretraining.
    """
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1] or labels.shape != bank.shape[:1]:
        raise ValueError(
            f"queries are {tuple(queries.shape)}, the bank {tuple(bank.shape)} with labels {tuple(labels.shape)}; "
            "expected (Q, D), (N, D) and (N,)"
        )
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= num_classes:
        given = f"from {labels.min()} to {labels.max()}" if len(labels) else "missing"
        raise ValueError(f"labels of the bank are {given}; expected 0 to {num_classes - 1}, for {num_classes} classes")
    cosine, nearest = (unit(queries) @ unit(bank).T).topk(min(k, len(bank)), dim=1)  # (Q, k)
    votes = F.one_hot(labels[nearest], num_classes).float()  # (Q, k, C)
    return torch.einsum("qk,qkc->qc", (cosine / temperature).exp(), votes)
