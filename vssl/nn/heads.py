"""What sits on a backbone: the projector of pretraining, and the classifier of evaluation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Projector(nn.Module):
    """Pooled features to unit embeddings: two 1x1x1 convolutions with biases, no normalisation layer.

    On pooled features this is a two-layer perceptron, as in ViCC's public code. Always in float32: embeddings are
    compared over small differences.
    """

    def __init__(self, num_features: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(num_features, num_features, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv3d(num_features, dim, kernel_size=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, F, t, h, w) -> (B, D) unit vectors."""
        with torch.autocast(features.device.type, enabled=False):
            pooled = features.float().mean(dim=(2, 3, 4), keepdim=True)  # (B, F, 1, 1, 1)
            return F.normalize(self.layers(pooled).flatten(1), dim=1)


class ClassifierHead(nn.Module):
    """Pooled features to logits. The linear probe scales and batch-normalises them first; fine-tuning does neither.

    Args:
        num_features: F.
        num_classes: K.
        l2_normalise: make pooled features unit vectors.
        batch_norm: batch normalisation before the classifier.
        dropout: probability.

    Source: the classifier of ViCC's public code, inherited from CoCLR (arXiv:2010.09709).
    """

    def __init__(
        self, num_features: int, num_classes: int, *, l2_normalise: bool, batch_norm: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.l2_normalise = l2_normalise
        self.norm = nn.BatchNorm1d(num_features) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(num_features, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def pool(self, features: Tensor) -> Tensor:
        """(B, F, t, h, w) -> (B, F): what retrieval compares, a unit vector where the head says so."""
        pooled = features.float().mean(dim=(2, 3, 4))
        return F.normalize(pooled, dim=1) if self.l2_normalise else pooled

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, F) from `pool` -> (B, K)."""
        logits: Tensor = self.linear(self.dropout(self.norm(pooled)))
        return logits


def linear_probe_head(num_features: int, num_classes: int) -> ClassifierHead:
    """The head of the linear probe: unit features, batch-normalised, no dropout."""
    return ClassifierHead(num_features, num_classes, l2_normalise=True, batch_norm=True)


def plain_head(num_features: int, num_classes: int) -> ClassifierHead:
    """A linear layer on pooled features as they are."""
    return ClassifierHead(num_features, num_classes, l2_normalise=False, batch_norm=False)
