"""Concept codes of two networks, and the dictionaries that give their features back (FGKVMem, ACM Multimedia 2023)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vssl.distributed import all_reduce_sum, world_size
from vssl.nn.batchnorm import NormLayer
from vssl.nn.mlp import MLP

CodeSimilarity = Literal["dot", "cosine"]


class ConceptCode(nn.Module):
    """(B, D) embeddings -> (B, K) codes: how much of each concept there is, in logits.

    Args:
        dim: D.
        concepts: K.
        similarity: of an embedding and a concept.
    """

    def __init__(self, dim: int, concepts: int, similarity: CodeSimilarity) -> None:
        super().__init__()
        self.similarity = similarity
        self.weight = nn.Parameter(torch.empty(concepts, dim).normal_(std=0.01))

    def forward(self, embeddings: Tensor) -> Tensor:
        if self.similarity == "cosine":
            return F.linear(F.normalize(embeddings, dim=1), F.normalize(self.weight, dim=1))
        return F.linear(embeddings, self.weight)


class ConceptDictionary(MLP):
    """(B, K) codes, before any softmax -> (B, F) features of the trunk that they were made from."""

    def __init__(self, concepts: int, num_features: int, norm_layer: NormLayer) -> None:
        super().__init__(concepts, num_features, num_features, 2, norm_layer)


class Centre(nn.Module):
    """Running mean of the target's codes over the batches of all ranks, taken off before they are sharpened.

    As in DINO and in the public code of FGKVMem. Its paper adds it, which a scale of -1 does.

    Args:
        concepts: K.
        decay: of the mean per update.
        scale: factor of each batch's mean. The public code of FGKVMem divides by the number of GPUs twice, so its
            published runs on 8 GPUs are those of 1/8.

    Source: DINO, arXiv:2104.14294, section 3.1.
    """

    value: Tensor

    def __init__(self, concepts: int, decay: float, scale: float) -> None:
        super().__init__()
        self.decay, self.scale = decay, scale
        self.register_buffer("value", torch.zeros(concepts))

    @torch.no_grad()
    def update(self, codes: Tensor) -> None:
        """Take the mean of (B, K) codes in; all ranks call, each with as many."""
        mean = all_reduce_sum(codes.mean(dim=0)) / world_size()
        self.value.lerp_(self.scale * mean.to(self.value), 1 - self.decay)
