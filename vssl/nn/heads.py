"""What sits on a backbone: the projector of pretraining, and the classifier of evaluation."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_STD = 0.01  # deviation of a classifier's first weights, of all systems but the transformers' fine-tuning


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
        std: deviation of the first weights.

    Source: the classifier of ViCC's public code, inherited from CoCLR (arXiv:2010.09709).
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        l2_normalise: bool,
        batch_norm: bool,
        dropout: float = 0.0,
        std: float = HEAD_STD,
    ) -> None:
        super().__init__()
        self.l2_normalise = l2_normalise
        self.norm = nn.BatchNorm1d(num_features) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(num_features, num_classes)
        nn.init.normal_(self.linear.weight, std=std)
        nn.init.zeros_(self.linear.bias)

    def pool(self, features: Tensor) -> Tensor:
        """(B, F, t, h, w) -> (B, F): what retrieval compares, a unit vector where the head says so."""
        pooled = features.to(torch.promote_types(features.dtype, torch.float32)).mean(dim=(2, 3, 4))
        return F.normalize(pooled, dim=1) if self.l2_normalise else pooled

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, F) from `pool` -> (B, K)."""
        logits: Tensor = self.linear(self.dropout(self.norm(pooled)))
        return logits


class HiddenClassifierHead(ClassifierHead):
    """A classifier with a hidden layer and ReLU before it: X3D's (Feichtenhofer, CVPR 2020).

    What is pooled, and dropped out, is the hidden layer's output.

    Args:
        num_features: F.
        hidden_features: H.
        num_classes: K.
        bias: of the hidden layer: STS has one on images, and none on videos.
        std: deviation of the first weights of both layers.
    """

    def __init__(
        self, num_features: int, hidden_features: int, num_classes: int, *, bias: bool, std: float = HEAD_STD
    ) -> None:
        super().__init__(hidden_features, num_classes, l2_normalise=False, batch_norm=False, std=std)
        self.hidden = nn.Linear(num_features, hidden_features, bias=bias)
        nn.init.normal_(self.hidden.weight, std=std)
        if bias:
            nn.init.zeros_(self.hidden.bias)

    def pool(self, features: Tensor) -> Tensor:
        """(B, F, t, h, w) -> (B, H)"""
        return F.relu(self.hidden(super().pool(features)))


def linear_probe_head(num_features: int, num_classes: int) -> ClassifierHead:
    """The head of the linear probe: unit features, batch-normalised, no dropout."""
    return ClassifierHead(num_features, num_classes, l2_normalise=True, batch_norm=True)


def plain_head(num_features: int, num_classes: int, *, std: float = HEAD_STD) -> ClassifierHead:
    """A linear layer on pooled features as they are."""
    return ClassifierHead(num_features, num_classes, l2_normalise=False, batch_norm=False, std=std)


def fine_tuning_head(
    backbone: nn.Module, num_classes: int, *, hidden_bias: bool = False, std: float = HEAD_STD
) -> ClassifierHead:
    """What is trained together with a backbone: a linear layer, or two where the backbone names `hidden_features`."""
    num_features: Any = backbone.num_features
    hidden_features: Any = getattr(backbone, "hidden_features", None)
    if hidden_features is None:
        return plain_head(num_features, num_classes, std=std)
    return HiddenClassifierHead(num_features, hidden_features, num_classes, bias=hidden_bias, std=std)


def head_of(tensors: Mapping[str, Tensor]) -> ClassifierHead:
    """The head that a state is of, to be filled with it: of a probe it normalises, of X3D it has a hidden layer.

    Args:
        tensors: with `linear.weight` among them.
    """
    num_classes, num_features = tensors["linear.weight"].shape
    hidden = tensors.get("hidden.weight")
    if hidden is not None:
        return HiddenClassifierHead(hidden.shape[1], num_features, num_classes, bias="hidden.bias" in tensors)
    return (linear_probe_head if "norm.weight" in tensors else plain_head)(num_features, num_classes)
