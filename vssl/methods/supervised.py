"""Supervised training: cross-entropy of a classifier on a backbone, of which everything is trained."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vssl.backbones.build import Backbone
from vssl.distributed import rank, world_size
from vssl.methods import Position
from vssl.nn.heads import ClassifierHead
from vssl.randomness import stream


class Supervised(nn.Module):
    """Backbone, global average pool, dropout, one linear layer.

    Source: fine-tuning in ViCC (Toering et al., WACV 2022) and its public code. Dropout is drawn for the global batch
    from (seed, step), so neither ranks nor restarts change it.

    Args:
        backbone: with an attribute `num_features`.
        num_classes: K.
        dropout: probability, of pooled features.
        seed: of dropout and of the batch's flip.
        batch_flip: probability that a whole batch is mirrored, one coin a step as in the public code; 0 where each
            video has its own, drawn with its view.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, *, dropout: float, seed: int, batch_flip: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = ClassifierHead(backbone.num_features, num_classes, l2_normalise=False, batch_norm=False)
        self.dropout = dropout
        self.seed = seed
        self.batch_flip = batch_flip

    def forward(self, batch: Mapping[str, Any], position: Position) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Mean cross-entropy of this rank's videos, and `accuracy` of the training clips."""
        (views,) = batch["streams"].values()  # (B, 1, 3, T, H, W)
        clips, labels = views[:, 0], batch["labels"]
        coin = torch.rand((), generator=stream(self.seed, position.step, "flip")).item()
        if coin < self.batch_flip:
            clips = clips.flip(-1)
        features = self.backbone(clips)
        with torch.autocast(features.device.type, enabled=False):
            pooled = self.head.pool(features)  # (B, F), float32
            logits = self.head(pooled * self._kept(pooled, position))
            accuracy = (logits.argmax(dim=1) == labels).double().mean()
            return F.cross_entropy(logits, labels), {"accuracy": accuracy}

    def classify(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, K) logits without dropout, in float32."""
        features = self.backbone(clips)
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(self.head.pool(features))
            return logits

    def before_update(self, position: Position) -> None:
        """Nothing to do."""

    def after_update(self, position: Position) -> None:
        """Nothing to do."""

    def weights(self) -> dict[str, Tensor]:
        """`backbone.*` and `head.*`."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.state_dict().items()}

    def _kept(self, pooled: Tensor, position: Position) -> Tensor:
        """This rank's part of the dropout mask, (B, F), scaled so that its mean is 1."""
        local, features = pooled.shape
        drawn = torch.rand(local * world_size(), features, generator=stream(self.seed, position.step, "dropout"))
        mine = drawn[rank() * local : (rank() + 1) * local]
        return ((mine >= self.dropout).float() / (1 - self.dropout)).to(pooled)
