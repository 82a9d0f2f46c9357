"""Linear probe: a linear classifier is trained on a frozen backbone and tested on all windows of each test video."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vssl.artifacts import Inputs
from vssl.backbones.build import Backbone
from vssl.data.views.view_makers import view_for_training
from vssl.device import prepared
from vssl.distributed import all_gather_cat, is_main, rank
from vssl.methods import Position
from vssl.nn.heads import linear_probe_head, plain_head
from vssl.optim import build_optimizer
from vssl.randomness import seeded
from vssl.run import Run
from vssl.stages.classification import plot_training, predict, scored
from vssl.stages.classifier_training import train_classifier
from vssl.stages.linear_config import LinearConfig
from vssl.stages.report import write_metrics
from vssl.stages.sources import clips, frozen_backbone, header, seen
from vssl.stages.validation import validation
from vssl.weights import save_weights


class LinearProbe(nn.Module):
    """A frozen backbone in eval mode under a head of which everything is trained, its batch normalisation included.

    Source: ViCC (Toering et al., WACV 2022), section 4.3 and the public code. The head's batch statistics are those
    of the global batch, where the original takes each GPU's. FGKVMem's probe is a plain head, and in its public code
    the backbone stays in training mode.

    Args:
        backbone: its parameters require no gradient.
        num_classes: K.
        plain: no normalisation under the classifier.
        drifting: in training the backbone normalises by the batch, and its running statistics follow.
    """

    def __init__(self, backbone: Backbone, num_classes: int, *, plain: bool = False, drifting: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.drifting = drifting
        make_head = plain_head if plain else linear_probe_head
        self.head = make_head(backbone.num_features, num_classes)

    def train(self, mode: bool = True) -> "LinearProbe":
        super().train(mode)
        self.backbone.train(mode and self.drifting)
        return self

    def forward(self, batch: Mapping[str, Any], position: Position) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Cross-entropy of this rank's videos, and `accuracy` of the training clips."""
        (views,) = batch["streams"].values()  # (B, 1, 3, T, H, W)
        pooled = all_gather_cat(self.pooled(views[:, 0]))  # (B of all ranks, F), so that the batch is normalised whole
        labels = batch["labels"]
        own = slice(rank() * len(labels), (rank() + 1) * len(labels))
        logits = self.classify(pooled)[own]
        accuracy = (logits.argmax(dim=1) == labels).double().mean()
        return F.cross_entropy(logits, labels), {"accuracy": accuracy}

    @torch.no_grad()
    def pooled(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, F) features, as the head takes them."""
        return self.head.pool(self.backbone(clips))

    def classify(self, pooled: Tensor) -> Tensor:
        with torch.autocast(pooled.device.type, enabled=False):
            logits: Tensor = self.head(pooled)
            return logits

    def before_update(self, position: Position) -> None:
        """Nothing to do: the backbone has no gradients."""

    def after_update(self, position: Position) -> None:
        """Nothing to do."""

    def weights(self) -> dict[str, Tensor]:
        """`backbone.*` and `head.*`."""
        return {name: tensor.detach().cpu() for name, tensor in self.state_dict().items()}


def run(config: LinearConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Train the head, then test it: softmax per window, averaged over all windows of a video.

    Makes `predictions` (tables and JSON with the probabilities), `weights` (backbone and head), `plots`.

    Returns:
        `top1`, `top5`, `chance_top1`, `train_loss_first`, `train_loss_last`, `train_accuracy_last`, and the videos
        that were too short or broke.
    """
    with prepared(config.runtime) as device:
        view = view_for_training(config.augment, config.data.crop_size)
        dataset = clips(config.data, config.data.train_split, inputs, seed=config.seed, view=view)
        backbone = frozen_backbone(config, inputs, run, device)
        with seeded(config.seed, "head"):
            probe = LinearProbe(
                backbone, len(dataset.classes), plain=config.head == "plain", drifting=config.trunk == "train"
            ).to(device)
        optimizer = build_optimizer(config.optim, probe.parameters())

        def classify(windows: Tensor) -> Tensor:
            return probe.classify(probe.pooled(windows))  # (n, classes)

        watch = validation(config, probe, classify, inputs, run, device=device)
        figures = train_classifier(config, probe, optimizer, dataset, inputs, run, device, watch=watch)
        probe.eval()
        predictions = predict(config, inputs, run, classify, batch_size=config.global_batch_size, device=device)
    metrics = scored(run, predictions) | figures
    if is_main():
        trained_on, classes = config.data.modality, list(dataset.classes)
        about = header(
            "linear", run, backbone=config.backbone, modality=trained_on, classes=classes, clips=seen(config.data)
        )
        save_weights(run, "weights", about, probe.weights())
        plot_training(run, predictions, classes)
    write_metrics(run, metrics)
    return metrics
