"""Self-supervised pretraining: a method learns a backbone from unlabelled videos."""

import math
from functools import partial
from typing import Any

import torch
from torch import nn

from vssl.artifacts import Inputs, one
from vssl.checkpoint import identity
from vssl.data.clips import ClipDataset
from vssl.data.label_runs import Labels
from vssl.data.loader import TrainLoader
from vssl.data.views.view_makers import view_for_pretraining
from vssl.device import placed, prepared
from vssl.distributed import is_main
from vssl.loop import replaced_over_ranks, train
from vssl.methods import load_method
from vssl.methods.carl_config import CARLConfig
from vssl.optim import build_optimizer, clip_of, tokens_and_positions
from vssl.optim_config import peak_rate
from vssl.plots import assignment_histogram, loss_curve, usage_curve
from vssl.prototype_usage import PrototypeUsage, prototype_usage
from vssl.run import Run, StageError
from vssl.schedules import learning_rate, weight_decay_of
from vssl.stages.initial import initialise
from vssl.stages.knn_monitor import Monitor, knn_monitor
from vssl.stages.model_card import write_model_card
from vssl.stages.pretrain_config import PretrainConfig
from vssl.stages.report import plot, training_figures
from vssl.stages.sources import clips, frame_labels, header, stream_weights, train_loader
from vssl.weights import save_weights


def run(config: PretrainConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Train the method from the bound weights, or from its seed.

    Makes `weights` (of the main stream: backbone, projector, and what else the method hands on), `plots`, and `card`
    with `model_card.md`.

    Returns:
        `loss_first`, `loss_last` (means over the first and last epoch), `<scalar>_last` of what the method reports,
        `effective_prototypes_last` of one with prototypes, `replaced_videos`, `dropped_short`, `videos`; with `knn`, of
        the trained network `knn_top1`, `knn_top5`, `knn_chance_top1`.
    """
    modality = config.method.main_stream or config.data.modality
    with prepared(config.runtime) as device:
        view = view_for_pretraining(config.augment, config.data.crop_size)
        dataset = clips(config.data, config.data.train_split, inputs, seed=config.seed, view=view)
        method = placed(_method(config, inputs, run), config.runtime, device)
        usage = prototype_usage(method)
        loader = train_loader(
            config,
            dataset,
            device,
            class_group_size=config.method.class_group_size if isinstance(config.method, CARLConfig) else None,
            frame_labels=_frame_labels(config, dataset, inputs),
        )
        try:
            watch = knn_monitor(config, method, inputs, run, device=device)
            _train(config, method, loader, inputs, run, device, watch, usage)
            figures = training_figures(run) | _counts(dataset, replaced_over_ranks(loader))
            figures |= {name.replace("/", "_"): value for name, value in watch(config.epochs).items()}
        finally:
            loader.close()
    if is_main():
        about = header("pretrain", run, backbone=config.backbone, modality=modality, method=config.method.name)
        save_weights(run, "weights", about, method.weights())
        write_model_card(run, config, inputs, figures, modality=modality)
        chance = math.log(len(usage.last_epoch)) if usage else None
        plot(run, "loss.png", partial(loss_curve, chance=chance))
        if usage:
            counts = usage.last_epoch.tolist()
            plot(run, "assignments.png", lambda _, path: assignment_histogram(counts, path))
            plot(run, "prototypes.png", partial(usage_curve, prototypes=len(counts)))
    return figures


def _frame_labels(config: PretrainConfig, dataset: ClipDataset, inputs: Inputs) -> dict[str, Labels] | None:
    """For the objective that learns from them.

    Raises:
        StageError: a video has none, or they are more than the classifier tells apart.
    """
    if not isinstance(config.method, CARLConfig) or config.method.objective != "supervised":
        return None
    labels = frame_labels(inputs, dataset.video_ids, config.data.train_split)
    count = 1 + max(int(labels[name].max()) for name in dataset.video_ids)
    if count > config.method.num_classes:
        raise StageError(
            f"method.num_classes is {config.method.num_classes} and frames of the split {config.data.train_split} have "
            f"{count} labels; set it to that"
        )
    return labels


def _method(config: PretrainConfig, inputs: Inputs, run: Run) -> Any:
    """The method on the CPU: of weights drawn from the seed, of a file of `initial`, or of both streams' weights."""
    method = load_method(config.method.name)(
        config.method, config.backbone, global_batch_size=config.global_batch_size, seed=config.seed
    )
    if isinstance(config.method, CARLConfig) and config.method.initial != "none":
        initialise(method.encoder, one(inputs, "initial"), config.method.initial, run)
    if config.method.main_stream is None:
        return method
    main, second = one(inputs, "main"), one(inputs, "second")
    if main is None or second is None:
        missing = "main" if main is None else "second"
        raise StageError(f"no weights are bound to the role `{missing}`; a cross-stream stage starts from both streams")
    modalities = ("rgb", "flow") if config.method.main_stream == "rgb" else ("flow", "rgb")
    weights = [stream_weights(a, config.backbone, modality, run) for a, modality in zip((main, second), modalities)]
    try:
        method.load_streams(*(one_stream.tensors for one_stream in weights))
    except (ValueError, RuntimeError) as error:
        raise StageError(
            f"the weights of {main.origin} and {second.origin} do not fit method {config.method}: {error}"
        ) from None
    return method


def _train(
    config: PretrainConfig,
    method: nn.Module,
    loader: TrainLoader,
    inputs: Inputs,
    run: Run,
    device: torch.device,
    watch: Monitor,
    usage: PrototypeUsage | None,
) -> None:
    lr_at = partial(_learning_rate, config=config, steps_per_epoch=loader.steps_per_epoch)
    train(
        method,
        build_optimizer(config.optim, method.parameters(), tables=tokens_and_positions(method)),
        loader,
        run,
        lr_at=lr_at,
        weight_decay_at=weight_decay_of(config.optim, config.schedule_epochs or config.epochs, loader.steps_per_epoch),
        clip=clip_of(config.optim),
        epochs=config.epochs,
        schedule_epochs=config.schedule_epochs,
        runtime=config.runtime,
        device=device,
        identity=identity(config, inputs),
        watch=watch,
        tally=usage,
    )


def _learning_rate(step: int, *, config: PretrainConfig, steps_per_epoch: int) -> float:
    epochs = config.schedule_epochs or config.epochs
    return learning_rate(
        config.schedule,
        peak_rate(config.optim, config.global_batch_size),
        step=step,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
    )


def _counts(dataset: ClipDataset, replaced: list[str]) -> dict[str, float]:
    return {
        "videos": float(len(dataset)),
        "dropped_short": float(dataset.dropped_short),
        "replaced_videos": float(len(replaced)),
    }
