"""Classifier heads on pooled features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vssl.distributed import all_gather_cat, rank


class LinearHead(nn.Module):
    """L2 normalisation, batch normalisation, one linear layer: the linear probe's head.

    The batch statistics are those of the global batch, so that the number of ranks changes nothing; the features come
    from a frozen network, so that no gradient has to cross ranks for it.

    Source: ViCC (Toering et al., WACV 2022), evaluation code of the original repository.
    """

    def __init__(self, num_features: int, num_classes: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_features)
        self.linear = nn.Linear(num_features, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01, generator=generator)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, F) pooled features of this rank's videos, without gradient, to (B, num_classes) logits."""
        features = F.normalize(features.float(), dim=1)
        if not self.training:
            return self.classify(self.norm(features))
        normalised = self.norm(all_gather_cat(features))  # (B of all ranks, F)
        first = rank() * len(features)
        return self.classify(normalised[first : first + len(features)])

    def classify(self, normalised: Tensor) -> Tensor:
        logits: Tensor = self.linear(normalised)
        return logits
