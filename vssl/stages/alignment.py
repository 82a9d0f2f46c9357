"""Frame-wise evaluation: embeddings of all frames of long videos, exported, measured and shown."""

from collections.abc import Sequence

import numpy as np
import torch

from vssl.artifacts import Inputs, one
from vssl.config import nearest
from vssl.data.clips import ClipDataset
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.view_makers import view_for_testing
from vssl.device import placed, prepared
from vssl.distributed import broadcast_object, is_main
from vssl.evals.alignment import chance_of_label, frame_retrieval, kendalls_tau, warp_phase_error
from vssl.evals.frame_probes import Videos, element_accuracy, phase_accuracy, progression_r2
from vssl.evals.metrics import chance_top1
from vssl.methods.carl import CARL, FrameEncoder
from vssl.methods.carl_config import CARLConfig
from vssl.run import Run, StageError
from vssl.stages.alignment_config import AlignmentConfig
from vssl.stages.alignment_pictures import draw_alignment
from vssl.stages.frame_embeddings import EmbeddedVideo, embed_split
from vssl.stages.initial import initialise
from vssl.stages.report import write_metrics
from vssl.stages.sources import clips, frame_labels, stream_weights
from vssl.weights import fill


def run(config: AlignmentConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Embed every frame of the videos of both splits, or of those of some actions, and measure the embeddings.

    Makes `features` (`<split>/<video>.npz` with `embeddings`, (frames, D), and `labels`), `metrics`, and `plots` of two
    test videos laid over one another.

    Returns:
        Of the tasks asked for: `kendalls_tau` (and `_train`); `ap_at_<k>`, `chance_ap`; `warp_phase_error`,
        `chance_phase_error`; `top1` of phases or elements with all fractions as `top1_at_<fraction>`, `train_top1`,
        `chance_top1`; `progression_r2`, also `_at_<fraction>` and `train_`; `train_videos`, `test_videos`, `frames`. By
        action, means over actions, and `<name>_<action>`.
    """
    splits = {"train": config.data.train_split, "test": config.data.test_split}
    with prepared(config.runtime) as device:
        encoder = placed(_encoder(config, inputs, run), config.runtime, device).eval()
        datasets = {
            name: clips(config.data, split, inputs, seed=config.seed, view=view_for_testing(TestViewConfig(), 1))
            for name, split in splits.items()
        }
        chosen = {name: _chosen(config, dataset) for name, dataset in datasets.items()}
        labels = {
            name: frame_labels(inputs, (dataset.video_ids[i] for i in chosen[name]), splits[name])
            for name, dataset in datasets.items()
        }
        found = {
            name: embed_split(
                config, encoder, dataset, chosen[name], labels[name], run, split=splits[name], device=device
            )
            for name, dataset in datasets.items()
        }
        figures = _figures(config, datasets["test"].classes, found, device) if is_main() else {}
    metrics: dict[str, float] = broadcast_object(figures)
    if is_main():
        draw_alignment(run, datasets["test"], found["test"], seed=config.seed)
    write_metrics(run, metrics)
    return metrics


def _encoder(config: AlignmentConfig, inputs: Inputs, run: Run) -> FrameEncoder:
    """On the CPU: of the bound weights, or as pretraining would start it."""
    method = CARL.from_config(
        CARLConfig(embedder=config.embedder, initial=config.initial, block=config.block),
        config.backbone,
        global_batch_size=1,
        seed=config.seed,
    )
    encoder = method.encoder
    artifact = one(inputs, "weights")
    if artifact is not None:
        weights = stream_weights(artifact, config.backbone, "rgb", run)
        fill(encoder.backbone, weights.part("backbone"), what=f"the backbone of {artifact.origin}")
        fill(encoder.embedder, weights.part("embedder"), what=f"the embedder of {artifact.origin}")
    elif config.initial != "none":
        initialise(encoder, one(inputs, "initial"), config.initial, run)
    elif is_main():
        run.say("no weights are bound: this is an untrained network")
    return encoder.requires_grad_(False)


def _chosen(config: AlignmentConfig, dataset: ClipDataset) -> list[int]:
    """Numbers of the videos that are evaluated.

    Raises:
        StageError: no such action.
    """
    classes = dataset.classes
    for name in config.actions:
        if name not in classes:
            raise StageError(f"actions names {name}{nearest(name, classes)}; the dataset has: {', '.join(classes)}")
    actions = dataset.labels.tolist()
    return [i for i, action in enumerate(actions) if not config.actions or classes[action] in config.actions]


def _figures(
    config: AlignmentConfig, classes: Sequence[str], found: dict[str, list[EmbeddedVideo]], device: torch.device
) -> dict[str, float]:
    actions = sorted({video.action for videos in found.values() for video in videos})
    groups = [[action] for action in actions] if config.by_action else [actions]
    per_group: dict[str, dict[str, float]] = {}
    for group in groups:
        train, test = (_labelled([v for v in found[split] if v.action in group]) for split in ("train", "test"))
        if train[0] and test[0]:
            per_group[classes[group[0]]] = measured(config, train, test, device)
    if not per_group:
        raise StageError("no video with labelled frames is in both splits; look at report.json of the dataset")
    names = next(iter(per_group.values()))
    metrics = {name: float(np.mean([of_group[name] for of_group in per_group.values()])) for name in names}
    if config.by_action:
        metrics |= {f"{name}_{action}": v for action, of in per_group.items() for name, v in of.items()}
    counts = {f"{split}_videos": float(len(videos)) for split, videos in found.items()}
    frames = sum(len(video.labels) for videos in found.values() for video in videos)
    return metrics | counts | {"frames": float(frames)}


def _labelled(videos: Sequence[EmbeddedVideo]) -> Videos:
    """Embeddings and labels of frames that have one, of videos that have such frames."""
    kept = [(video.embeddings[video.labels >= 0], video.labels[video.labels >= 0]) for video in videos]
    kept = [one for one in kept if len(one[1])]
    return [embeddings for embeddings, _ in kept], [labels for _, labels in kept]


def measured(config: AlignmentConfig, train: Videos, test: Videos, device: torch.device) -> dict[str, float]:
    """Every task on videos of one kind.

    Raises:
        StageError: a video lacks a phase, and the time to events is asked for.
    """
    classes = 1 + max(int(labels.max()) for labels in (*train[1], *test[1]))
    figures: dict[str, float] = {}
    if "tau" in config.tasks:
        figures["kendalls_tau"] = kendalls_tau(test[0], stride=config.stride)
        figures["kendalls_tau_train"] = kendalls_tau(train[0], stride=config.stride)
    if "retrieval" in config.tasks:
        rates = frame_retrieval(*test, config.ks, stride=config.stride)
        figures |= {f"ap_at_{k}": rate for k, rate in rates.items()} | {"chance_ap": chance_of_label(test[1])}
    if "warp" in config.tasks:
        error, chance = warp_phase_error(*test, stride=config.stride)
        figures |= {"warp_phase_error": error, "chance_phase_error": chance}
    for fraction in config.fractions:
        at, last = f"_at_{fraction:g}", fraction == config.fractions[-1]
        if "classification" in config.tasks or "probe" in config.tasks:
            if "probe" in config.tasks:
                scores = element_accuracy(
                    train,
                    test,
                    fraction,
                    num_classes=classes,
                    lr=config.probe_lr,
                    epochs=config.probe_epochs,
                    batch_size=config.probe_batch_size,
                    seed=config.seed,
                    device=device,
                )
            else:
                scores = phase_accuracy(train, test, fraction)
            figures[f"top1{at}"] = scores[1]
            if last:
                figures |= {"top1": scores[1], "train_top1": scores[0]}
                figures["chance_top1"] = chance_top1(torch.from_numpy(np.concatenate(test[1])))
        if "progression" in config.tasks and classes > 1:
            try:
                scores = progression_r2(train, test, fraction, classes)
            except ValueError as error:
                raise StageError(
                    f"progression: {error}; leave it out of `tasks`, or the video out of the list"
                ) from None
            figures[f"progression_r2{at}"] = scores[1]
            if last:
                figures |= {"progression_r2": scores[1], "train_progression_r2": scores[0]}
    return figures
