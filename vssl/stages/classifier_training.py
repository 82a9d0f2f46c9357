"""The training of a classifier, be it a probe, a fine-tuning or a pre-training on images."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from vssl.artifacts import Inputs
from vssl.checkpoint import identity
from vssl.data.clips import ClipDataset
from vssl.data.loader import TrainLoader
from vssl.loop import replaced_over_ranks, train
from vssl.optim import clip_of
from vssl.optim_config import peak_rate
from vssl.run import Run
from vssl.schedules import learning_rate, weight_decay_of
from vssl.stages.finetune_config import FinetuneConfig
from vssl.stages.image_pretrain_config import ImagePretrainConfig
from vssl.stages.linear_config import LinearConfig
from vssl.stages.report import training_figures
from vssl.stages.sources import train_loader


def train_classifier(
    config: LinearConfig | FinetuneConfig | ImagePretrainConfig,
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: ClipDataset,
    inputs: Inputs,
    run: Run,
    device: torch.device,
    *,
    watch: Callable[[int], Mapping[str, float]] = lambda epochs: {},
    finish: Callable[[TrainLoader], object] = lambda loader: None,
) -> dict[str, float]:
    """Train on all videos, or images, of a split, from the newest checkpoint if there is one.

    Args:
        config: of the stage.
        method: what is trained; on `device` already.
        optimizer: over its trainable parameters.
        dataset: the training split.
        inputs: of the stage.
        run: the stage's execution.
        device: where to train.
        watch: as of `vssl.loop.train`.
        finish: what is done with the training batches after the last update.

    Returns:
        `train_loss_first`, `train_loss_last`, `train_accuracy_last`, and of the split `dropped_short` and
        `replaced_videos`: those that were too short, or broke.
    """
    loader = train_loader(config, dataset, device)
    steps, peak = loader.steps_per_epoch, peak_rate(config.optim, config.global_batch_size)

    def lr_at(step: int) -> float:
        return learning_rate(config.schedule, peak, step=step, epochs=config.epochs, steps_per_epoch=steps)

    try:
        train(
            method,
            optimizer,
            loader,
            run,
            lr_at=lr_at,
            weight_decay_at=weight_decay_of(config.optim, config.epochs, steps),
            clip=clip_of(config.optim),
            epochs=config.epochs,
            runtime=config.runtime,
            device=device,
            identity=identity(config, inputs),
            watch=watch,
        )
        replaced = len(replaced_over_ranks(loader))
        finish(loader)
    finally:
        loader.close()
    figures = {f"train_{name}": value for name, value in training_figures(run).items()}
    return figures | {"dropped_short": float(dataset.dropped_short), "replaced_videos": float(replaced)}
