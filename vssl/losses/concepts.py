"""Losses of the key-value memory's concepts (FGKVMem: Li et al., ACM Multimedia 2023, section 3): pure functions.

All compute in the precision of their inputs, which the method keeps at float32 or more.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

ReconstructionLoss = Literal["cosine", "l2"]
Reduction = Literal["numel", "batch"]


def reconstruction(
    found: Tensor, features: Tensor, *, loss: ReconstructionLoss = "cosine", reduction: Reduction = "numel"
) -> Tensor:
    """Distance of features that a dictionary gave back from the true ones.

    Args:
        found: (B, F) features made from codes; carry the gradient.
        features: (B, F) true features; receive none.
        loss: `cosine`: 1 - cos per sample; `l2`: squared differences, summed.
        reduction: `numel` divides the sum by B * F, as the public code does even where there is one cosine per sample;
            `batch` by B.

    Returns:
        Scalar, 0 for equal directions (`cosine`) or equal features (`l2`).
    """
    target = features.detach()
    if loss == "cosine":
        total = (1 - F.cosine_similarity(found, target, dim=1, eps=1e-8)).abs().sum()
    else:
        total = (found - target).square().sum()
    return total / (found.numel() if reduction == "numel" else len(found))


@torch.no_grad()
def sharpened(target_codes: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """(B, K) codes of the target network, less their (K,) centre -> shares of the concepts, without gradient."""
    return torch.softmax((target_codes - centre) / temperature, dim=1)


def alignment(codes: Tensor, shares: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the online network's concepts against the target's.

    Args:
        codes: (B, K) of the online network; carry the gradient.
        shares: (B, K) of the target network, from `sharpened`.
        temperature: divisor of the codes before the softmax.

    Returns:
        Scalar, the mean over samples; ln K where the online codes are uniform.

    Source: DINO, arXiv:2104.14294, equation 2; FGKVMem applies it to concepts.
    """
    return -(shares.detach() * F.log_softmax(codes / temperature, dim=1)).sum(dim=1).mean()


def address_sparsity(shares: Tensor, top_k: int) -> Tensor:
    """What lies outside of each query's `top_k` largest shares, on average: 0 where so few slots hold everything.

    Args:
        shares: (B, H, S) from `KeyValueMemory.address`.
        top_k: slots that may be used, at most S.
    """
    return (1 - shares.topk(top_k, dim=-1).values.sum(dim=-1)).mean()


def decorrelation(vectors: Tensor) -> Tensor:
    """How alike vectors are: the sum of |I - cos| over all ordered pairs of N of them, over N.

    Args:
        vectors: (N, D): the slots of a memory, or the embeddings of a batch; carry the gradient.

    Returns:
        Scalar: 0 where all are orthogonal, N - 1 where all are parallel.
    """
    unit = F.normalize(vectors, dim=1)
    identity = torch.eye(len(unit), device=unit.device, dtype=unit.dtype)
    return (identity - unit @ unit.T).abs().sum() / len(unit)
