"""Learnable unit vectors that embeddings are compared with."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Prototypes(nn.Module):
    """C prototypes of D dimensions; scores are cosine similarities if the embeddings are unit vectors too.

    The optimiser moves rows off the unit sphere, so `renormalise` is called before each forward, and weights that were
    saved after an update are not unit rows (SwAV, arXiv:2006.09882, appendix A).
    """

    def __init__(self, dim: int, num_prototypes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(dim, num_prototypes, bias=False).weight.detach())

    @torch.no_grad()
    def renormalise(self) -> None:
        """Make every row a unit vector, in place.

        Rows that are unit vectors up to rounding keep their bits, so frozen prototypes stay what they are however often
        this is called.
        """
        norms = self.weight.double().norm(dim=1, keepdim=True)  # float64: exact beside what is being corrected
        is_unit = (norms - 1).abs() < torch.finfo(torch.float32).eps
        self.weight.copy_(torch.where(is_unit, self.weight, self.weight / norms))

    def forward(self, embeddings: Tensor) -> Tensor:
        """(N, D) -> (N, C) scores in float32."""
        return F.linear(embeddings.float(), self.weight.float())
