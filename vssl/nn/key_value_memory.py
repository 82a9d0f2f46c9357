"""A predictor that looks its answer up in a learned memory (FGKVMem: Li et al., ACM Multimedia 2023)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vssl.nn.batchnorm import NormLayer
from vssl.nn.mlp import MLP


class KeyValueMemory(nn.Module):
    """(B, D) embeddings -> (B, D) predictions: values, weighted by how alike their keys and the query are.

    Keys and values are ordinary parameters: nothing is written or forgotten but by the optimiser. Heads share neither.

    Args:
        dim: D.
        slots: N over all heads, a multiple of the heads.
        heads: H; each head reads N / H slots with a query of its own.
        query_dim: of a head's query and of a key.
        value_dim: of a value; without an output projection H * value_dim is D.
        scale: r, the factor of the cosine before the softmax over slots.
        query_layers: linear layers from embedding to queries.
        output_layers: linear layers from the values of all heads to the prediction; 0: none.
        residual: add the embedding to what was read, before the output projection.
        norm_layer: number of channels -> normalisation layer.
    """

    def __init__(
        self,
        dim: int,
        *,
        slots: int,
        heads: int,
        query_dim: int,
        value_dim: int,
        scale: float,
        query_layers: int,
        output_layers: int,
        residual: bool,
        norm_layer: NormLayer,
    ) -> None:
        super().__init__()
        self.heads, self.scale, self.residual = heads, scale, residual
        self.query = MLP(dim, query_dim, heads * query_dim, query_layers, norm_layer)
        self.key = nn.Parameter(torch.empty(slots, query_dim).uniform_(-(query_dim**-0.5), query_dim**-0.5))
        self.value = nn.Parameter(torch.empty(slots, value_dim).normal_(std=0.02))
        self.output = MLP(heads * value_dim, dim, dim, output_layers, norm_layer) if output_layers else nn.Identity()

    def address(self, embeddings: Tensor) -> Tensor:
        """(B, D) -> (B, H, N / H): shares of the slots, which sum to 1 for each head."""
        queries = self.query(embeddings).view(len(embeddings), self.heads, -1)  # (B, H, q)
        keys = self.key.view(self.heads, -1, queries.shape[-1])  # (H, S, q)
        cosine = torch.einsum("bhq,hsq->bhs", F.normalize(queries, dim=-1), F.normalize(keys, dim=-1))
        return torch.softmax(self.scale * cosine, dim=-1)

    def read(self, shares: Tensor, embeddings: Tensor) -> Tensor:
        """(B, H, N / H) shares from `address` and the (B, D) embeddings they are of -> (B, D) predictions."""
        values = self.value.view(self.heads, -1, self.value.shape[1])  # (H, S, v)
        found = torch.einsum("bhs,hsv->bhv", shares, values).flatten(1)  # (B, H * v)
        output: Tensor = self.output(found + embeddings if self.residual else found)
        return output

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.read(self.address(embeddings), embeddings)
