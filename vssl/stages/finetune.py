"""End-to-end fine-tuning: a classifier and the backbone under it are trained, then tested on every test video."""

from dataclasses import replace

import torch

from vssl.artifacts import Inputs
from vssl.checkpoint import identity
from vssl.data.augment_config import ClassifyAugmentConfig
from vssl.data.clips import ClipDataset
from vssl.data.views import ClassifyView
from vssl.device import placed, prepared
from vssl.distributed import is_main
from vssl.loop import replaced_over_ranks, train
from vssl.methods.supervised import Supervised
from vssl.nn.batchnorm import norm_layer
from vssl.optim import build_optimizer, learning_rate
from vssl.randomness import seeded
from vssl.run import Run
from vssl.stages.classification import plot_training, predict, scored
from vssl.stages.finetune_config import FinetuneConfig
from vssl.stages.report import training_figures, write_metrics
from vssl.stages.sources import clips, header, initial_backbone, train_loader
from vssl.weights import save_weights


def run(config: FinetuneConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Train from the bound weights' backbone, or from the seed, and test after the last epoch.

    No epoch is chosen by a look at test videos, as the original's "best" is.

    Makes `predictions` (tables and JSON with the probabilities), `weights` (backbone and head), `plots`.

    Returns:
        `top1`, `top5`, `chance_top1`, `train_loss_first`, `train_loss_last`, `train_accuracy_last`, and the videos
        that were too short or broke.
    """
    with prepared(config.runtime) as device:
        view = ClassifyView(_augment(config), config.data.crop_size)
        dataset = clips(config.data, config.data.train_split, inputs, seed=config.seed, view=view)
        backbone = initial_backbone(config, inputs, run, norm_layer(config.bn_group_size))
        with seeded(config.seed, "head"):
            method = Supervised(
                backbone,
                len(dataset.classes),
                dropout=config.dropout,
                seed=config.seed,
                batch_flip=config.augment.flip_probability if config.compat_batch_flip else 0.0,
            )
        method = placed(method, config.runtime, device)
        figures = _train(config, method, dataset, inputs, run, device)
        method.eval()
        predictions = predict(config, inputs, run, method.classify, batch_size=config.global_batch_size, device=device)
    metrics = scored(run, predictions) | figures
    if is_main():
        trained_on, classes = config.data.modality, list(dataset.classes)
        about = header("finetune", run, backbone=config.backbone, modality=trained_on, classes=classes)
        save_weights(run, "weights", about, method.weights())
        plot_training(run, predictions, classes)
    write_metrics(run, metrics)
    return metrics


def _augment(config: FinetuneConfig) -> ClassifyAugmentConfig:
    """The training views; where the whole batch is mirrored at once, none is by itself."""
    if not config.compat_batch_flip:
        return config.augment
    return replace(config.augment, flip_probability=0.0)


def _train(
    config: FinetuneConfig, method: Supervised, dataset: ClipDataset, inputs: Inputs, run: Run, device: torch.device
) -> dict[str, float]:
    loader = train_loader(config, dataset, device)

    def lr_at(step: int) -> float:
        return learning_rate(
            config.schedule,
            config.optim.base_lr,
            step=step,
            epochs=config.epochs,
            steps_per_epoch=loader.steps_per_epoch,
        )

    lr_scales = dict.fromkeys(method.backbone.parameters(), 1 / config.backbone_lr_ratio)
    try:
        train(
            method,
            build_optimizer(config.optim, method.parameters(), lr_scales=lr_scales),
            loader,
            run,
            lr_at=lr_at,
            epochs=config.epochs,
            runtime=config.runtime,
            device=device,
            identity=identity(config, inputs),
        )
        replaced = float(len(replaced_over_ranks(loader)))
    finally:
        loader.close()
    figures = {f"train_{name}": value for name, value in training_figures(run).items()}
    return figures | {"dropped_short": float(dataset.dropped_short), "replaced_videos": replaced}
