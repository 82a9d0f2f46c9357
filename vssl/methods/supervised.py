"""Supervised training: a classifier on a backbone, of which everything is trained, on videos or on images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vssl.backbones.build import Backbone
from vssl.distributed import all_gather_cat, rank, world_size
from vssl.losses.binary_cross_entropy import binary_cross_entropy
from vssl.methods import Position
from vssl.nn.drop_path import Place, draw_paths, set_drop_path
from vssl.nn.ema import averaged, move_state_towards
from vssl.nn.heads import HEAD_STD, fine_tuning_head
from vssl.nn.mixup import Mix, draw_mix, mixed, mixed_hits, soft_targets
from vssl.nn.mixup_config import MixupConfig
from vssl.randomness import seed_of, stream


class Supervised(nn.Module):
    """Backbone, global average pool, dropout, one linear layer.

    Source: fine-tuning in ViCC (Toering et al., WACV 2022) and its public code; with mixup, in FGKVMem (Li et al., ACM
    Multimedia 2023). Dropout and mixup are drawn for the global batch from (seed, step), so neither ranks nor restarts
    change them; the original draws a mix for each GPU's batch.

    Args:
        backbone: with an attribute `num_features`.
        num_classes: K.
        dropout: probability, of pooled features.
        seed: of dropout, of mixes and of the batch's flip.
        batch_flip: probability that a whole batch is mirrored, one coin a step as in the public code; 0 where each
            video has its own, drawn with its view.
        mixup: how clips of a batch are mixed; None: not at all.
        label_smoothing: share of a label that is spread evenly over all classes.
        drop_path: of the last of the backbone's branches, if it has any that can be dropped.
        drop_path_on: branches, or changing shortcuts as in STS's public code.
        binary: each class is a question of its own, as on images in STS; else one is chosen.
        hidden_bias: of the hidden layer, where the backbone asks for one.
        head_std: deviation of the classifier's first weights.
        ema_decay: per step, of a moving average of the whole network, which is then what is tested and handed on.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        dropout: float,
        seed: int,
        batch_flip: float = 0.0,
        mixup: MixupConfig | None = None,
        label_smoothing: float = 0.0,
        drop_path: float = 0.0,
        drop_path_on: Place = "branch",
        binary: bool = False,
        hidden_bias: bool = False,
        head_std: float = HEAD_STD,
        ema_decay: float | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = fine_tuning_head(backbone, num_classes, hidden_bias=hidden_bias, std=head_std)
        self.dropout = dropout
        self.seed = seed
        self.batch_flip = batch_flip
        self.mixup = mixup
        self.label_smoothing = label_smoothing
        self.binary = binary
        self.ema_decay = ema_decay
        self.average = None if ema_decay is None else averaged(nn.ModuleDict({"backbone": backbone, "head": self.head}))
        set_drop_path(backbone, drop_path, drop_path_on)

    def forward(self, batch: Mapping[str, Any], position: Position) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Mean cross-entropy of this rank's videos, and `accuracy` of the training clips; of mixed ones, `top5` too."""
        (views,) = batch["streams"].values()  # (B, 1, 3, T, H, W)
        clips, labels = views[:, 0], batch["labels"]
        coin = torch.rand((), generator=stream(self.seed, position.step, "flip")).item()
        if coin < self.batch_flip:
            clips = clips.flip(-1)
        mix = self._mix(clips, position)
        if mix.share < 1:
            clips = mixed(clips, _partners(clips), mix)
        draw_paths(self.backbone, len(clips), stream(self.seed, position.step, "paths"))
        features = self.backbone(clips)
        with torch.autocast(features.device.type, enabled=False):
            pooled = self.head.pool(features)  # (B, F), float32
            logits = self.head(pooled * self._kept(pooled, position))
            plain: dict[str, Tensor | float] = {"accuracy": (logits.argmax(dim=1) == labels).double().mean()}
            if self.mixup is None and not self.binary:
                return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing), plain
            targets = soft_targets(
                labels, _partners(labels), mix, num_classes=logits.shape[1], smoothing=self.label_smoothing
            )
            loss = binary_cross_entropy(logits, targets) if self.binary else F.cross_entropy(logits, targets)
            return loss, plain if self.mixup is None else {**mixed_hits(logits, targets)}

    def classify(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, K) logits without dropout, in float32; of the average where there is one."""
        parts: Any = self.average or self.trained()
        backbone, head = parts["backbone"], parts["head"]
        features = backbone(clips)
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = head(head.pool(features))
            return logits

    def before_update(self, position: Position) -> None:
        """Nothing to do."""

    def after_update(self, position: Position) -> None:
        """Move the average, if there is one."""
        if self.average is not None and self.ema_decay is not None:
            move_state_towards(self.average, self.trained(), self.ema_decay)

    def weights(self) -> dict[str, Tensor]:
        """`backbone.*` and `head.*`, of the average where there is one."""
        kept = (self.average or self.trained()).state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in kept.items()}

    def trained(self) -> nn.ModuleDict:
        """Backbone and head, as they learn."""
        return nn.ModuleDict({"backbone": self.backbone, "head": self.head})

    def _mix(self, clips: Tensor, position: Position) -> Mix:
        if self.mixup is None:
            return Mix(1.0)
        height, width = clips.shape[-2:]
        return draw_mix(self.mixup, height, width, np.random.default_rng(seed_of(self.seed, position.step, "mix")))

    def _kept(self, pooled: Tensor, position: Position) -> Tensor:
        """This rank's part of the dropout mask, (B, F), scaled so that its mean is 1."""
        local, features = pooled.shape
        drawn = torch.rand(local * world_size(), features, generator=stream(self.seed, position.step, "dropout"))
        mine = drawn[rank() * local : (rank() + 1) * local]
        return ((mine >= self.dropout).float() / (1 - self.dropout)).to(pooled)


def _partners(part: Tensor) -> Tensor:
    """What stands opposite in the global batch: this rank's part of it reversed."""
    local = len(part)
    return all_gather_cat(part).flip(0)[rank() * local : (rank() + 1) * local]
