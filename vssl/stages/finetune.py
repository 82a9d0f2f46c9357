"""End-to-end fine-tuning: a classifier and the backbone under it are trained, then tested on every test video."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from vssl.artifacts import Inputs
from vssl.backbones.mvit import MViTB
from vssl.backbones.vit_video import VideoTransformer
from vssl.data.loader import TrainLoader
from vssl.data.views.augment_config import TrainAugmentConfig
from vssl.data.views.view_makers import view_for_training
from vssl.device import autocast, placed, prepared
from vssl.distributed import any_true, is_main
from vssl.methods.supervised import Supervised
from vssl.nn.batchnorm import norm_layer
from vssl.nn.precise_bn import set_precise_statistics
from vssl.optim import build_optimizer, layer_rates, tokens_and_positions
from vssl.randomness import seeded
from vssl.run import Run, Stopped
from vssl.stages.classification import plot_training, predict, scored
from vssl.stages.classifier_training import train_classifier
from vssl.stages.finetune_config import FinetuneConfig
from vssl.stages.report import write_metrics
from vssl.stages.sources import bound_weights, clips, header, initial_backbone, seen
from vssl.stages.transfer import start_residuals_and_taps, take_hidden_layer
from vssl.stages.validation import validation
from vssl.weights import save_weights


def run(config: FinetuneConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Train from the bound weights' backbone, or from the seed, and test after the last epoch.

    No epoch is chosen by a look at test videos, as the original's "best" is.

    Makes `predictions` (tables and JSON with the probabilities), `weights` (backbone and head), `plots`.

    Returns:
        `top1`, `top5`, `chance_top1`, `train_loss_first`, `train_loss_last`, `train_accuracy_last`, and the videos
        that were too short or broke.
    """
    config.refuse_inputs(frozenset(inputs))
    with prepared(config.runtime) as device:
        view = view_for_training(_augment(config), config.data.crop_size)
        dataset = clips(config.data, config.data.train_split, inputs, seed=config.seed, view=view)
        weights = bound_weights(config, inputs, run)
        backbone = initial_backbone(config, weights, run, norm_layer(config.bn_group_size))
        start_residuals_and_taps(config, backbone)
        with seeded(config.seed, "head"):
            method = Supervised(
                backbone,
                len(dataset.classes),
                dropout=config.dropout,
                seed=config.seed,
                batch_flip=config.augment.flip_probability if config.compat_batch_flip else 0.0,
                mixup=config.mixup,
                label_smoothing=config.label_smoothing,
                drop_path=config.drop_path,
                head_std=config.head_std,
            )
        if weights is not None:
            take_hidden_layer(method.head, weights, run)
        method = placed(method, config.runtime, device)

        def set_statistics(loader: TrainLoader) -> None:
            with autocast(config.runtime, device):
                set_precise_statistics(method.backbone, _unmixed(config, loader, run))

        optimizer = _optimizer(config, method)
        figures = train_classifier(
            config,
            method,
            optimizer,
            dataset,
            inputs,
            run,
            device,
            watch=validation(config, method, method.classify, inputs, run, device=device),
            finish=set_statistics,
        )
        method.eval()
        predictions = predict(config, inputs, run, method.classify, batch_size=config.global_batch_size, device=device)
    metrics = scored(run, predictions) | figures
    if is_main():
        trained_on, classes = config.data.modality, list(dataset.classes)
        about = header(
            "finetune", run, backbone=config.backbone, modality=trained_on, classes=classes, clips=seen(config.data)
        )
        save_weights(run, "weights", about, method.weights())
        plot_training(run, predictions, classes)
    write_metrics(run, metrics)
    return metrics


def _augment(config: FinetuneConfig) -> TrainAugmentConfig:
    """The training views; where the whole batch is mirrored at once, none is by itself."""
    if not config.compat_batch_flip:
        return config.augment
    return replace(config.augment, flip_probability=0.0)


def _optimizer(config: FinetuneConfig, method: Supervised) -> torch.optim.Optimizer:
    """In which the backbone, and of a transformer each of its layers, learns at a rate of its own."""
    lr_scales = dict.fromkeys(method.backbone.parameters(), 1 / config.backbone_lr_ratio)
    if isinstance(method.backbone, VideoTransformer | MViTB):
        rates = layer_rates(method.backbone, method.backbone.layer_of, config.layer_decay)
        lr_scales = {parameter: scale * rates[parameter] for parameter, scale in lr_scales.items()}
    return build_optimizer(config.optim, method.parameters(), lr_scales=lr_scales, tables=tokens_and_positions(method))


def _unmixed(config: FinetuneConfig, loader: TrainLoader, run: Run) -> Iterator[Tensor]:
    """Clips of the epoch that would come next: a function of the seed alone, whatever was interrupted before.

    The original takes them before every checkpoint and every look at its validation videos; here only the last network
    is tested, and statistics of one that goes on learning are read by nobody.

    Raises:
        Stopped: some rank was asked to stop; the last checkpoint holds all that is lost.
    """
    count = min(config.precise_bn_batches, loader.steps_per_epoch)
    for number, batch in zip(range(count), loader.batches(config.epochs)):
        if is_main():
            run.beat(number, count)
        if any(any_true(run.should_stop())):
            raise Stopped("stopped while statistics of batch normalisation were taken, which will start again")
        yield batch["streams"][config.data.modality][:, 0]
