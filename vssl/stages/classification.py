"""The test of a classifier: class probabilities of every test video, what they are worth, and the files of both."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from vssl.artifacts import Inputs
from vssl.data.sampling.sampling_config import SegmentsConfig
from vssl.data.views.view_makers import view_for_testing
from vssl.distributed import is_main
from vssl.evals.metrics import chance_top1, mean_class_accuracy, top_k
from vssl.evals.protocols import Described, crop_protocols
from vssl.plots import confusion, loss_curve
from vssl.run import Run
from vssl.stages.crops_config import COUNTS
from vssl.stages.crops_view import CropsView
from vssl.stages.finetune_config import FinetuneConfig
from vssl.stages.linear_config import LinearConfig
from vssl.stages.multiview_config import MultiviewConfig
from vssl.stages.per_video import describe
from vssl.stages.report import plot
from vssl.stages.sources import clips
from vssl.stages.tables import write_probabilities


def predict(
    config: LinearConfig | FinetuneConfig | MultiviewConfig,
    inputs: Inputs,
    run: Run,
    classify: Callable[[Tensor], Tensor],
    *,
    batch_size: int,
    device: torch.device,
    largest: bool = False,
    average: Literal["prob", "score", "none"] = "prob",
) -> dict[str, Described]:
    """Probabilities of the test split's videos: softmax per window, mean over windows, mean over crops.

    Args:
        config: which videos, views and crops.
        inputs: of the stage.
        run: the stage's execution.
        classify: (n, 3, T, H, W) windows -> (n, K) logits, in eval mode.
        batch_size: windows per forward.
        device: where to compute.
        largest: in place of the mean over windows, the largest probability that a class has in any; it is a score then.
        average: of probabilities; `score` of logits, which become probabilities then; `none`: each view is a row
            `<video>#<view>` with its logits.

    Returns:
        By protocol, of `centre`, `five` and `ten`, up to `test_crops`.

    Raises:
        Stopped: some rank was asked to stop.
    """
    crops = _views_per_video(config) if average == "none" else COUNTS[config.test_crops]
    view = view_for_testing(config.test_view, config.data.crop_size)
    if config.test_crops != "centre":
        view = CropsView(config.test_view, config.data.crop_size, crops)
    dataset = clips(config.data, config.data.test_split, inputs, seed=config.seed, view=view)

    def per_window(windows: Tensor) -> Tensor:
        logits = classify(windows)
        return logits.softmax(dim=1) if average == "prob" else logits

    found = describe(
        dataset,
        per_window,
        run,
        runtime=config.runtime,
        batch_size=batch_size,
        device=device,
        crops=crops,
        largest=largest,
    )
    if average == "none":
        return {"views": each_view(found)}
    if average == "score":
        found = replace(found, vectors=found.vectors.softmax(dim=1))
    if config.test_crops == "centre":
        return {"centre": found}
    by_protocol = crop_protocols(found.vectors)
    return {name: Described(names=found.names, labels=found.labels, vectors=v) for name, v in by_protocol.items()}


def _views_per_video(config: LinearConfig | FinetuneConfig | MultiviewConfig) -> int:
    sparse = isinstance(config.data.sampling, SegmentsConfig) and config.data.sampling.sparse
    return config.test_view.num_crops * (1 if sparse else config.test_view.num_clips)


def each_view(found: Described) -> Described:
    """(N, V, D) vectors of videos as N V rows, each a view's."""
    vectors = found.vectors if found.vectors.ndim == 3 else found.vectors[:, None]
    views = vectors.shape[1]
    return Described(
        names=[f"{name}#{view}" for name in found.names for view in range(views)],
        labels=found.labels.repeat_interleave(views),
        vectors=vectors.flatten(0, 1),
    )


def scored(run: Run, predictions: Mapping[str, Described]) -> dict[str, float]:
    """Write the artifact `predictions` and return what it is worth.

    The table `predictions` holds the protocol with the most crops; where there are several, each has its own beside it.

    Returns:
        `top1`, `top5`, `mean_class_accuracy` (and as the public code of STS counts it, `_legacy`), `chance_top1`,
        `test_videos`, and `top1_<protocol>` where there are several.
    """
    best = [*predictions.values()][-1]
    tables = {"predictions": best} | (dict(predictions) if len(predictions) > 1 else {})
    if is_main():
        for name, videos in tables.items():
            write_probabilities(run, name, videos)
    metrics = {
        "top1": top_k(best.vectors, best.labels, 1),
        "top5": top_k(best.vectors, best.labels, 5),
        "mean_class_accuracy": mean_class_accuracy(best.vectors, best.labels),
        "mean_class_accuracy_legacy": mean_class_accuracy(best.vectors, best.labels, legacy=True),
        "chance_top1": chance_top1(best.labels),
        "test_videos": float(len(best.names)),
    }
    if len(predictions) > 1:
        metrics |= {f"top1_{name}": top_k(videos.vectors, videos.labels, 1) for name, videos in predictions.items()}
    return metrics


def scored_by_count(run: Run, by_count: Mapping[int, Mapping[str, Described]]) -> dict[str, float]:
    """Number of clips -> what `predict` made of so many: each with a table `clips_<n>` of its most crops.

    Returns:
        `top1_clips_<n>` and `top5_clips_<n>`.
    """
    metrics: dict[str, float] = {}
    for count, predictions in by_count.items():
        best = [*predictions.values()][-1]
        if is_main():
            write_probabilities(run, f"clips_{count}", best)
        metrics |= {f"top{k}_clips_{count}": top_k(best.vectors, best.labels, k) for k in (1, 5)}
    return metrics


def plot_training(run: Run, predictions: Mapping[str, Described], classes: Sequence[str]) -> None:
    """The artifact `plots` of a stage that trained a classifier; rank 0 only."""
    plot(run, "loss.png", partial(loss_curve, chance=math.log(len(classes))))
    plot_confusion(run, predictions, classes)


def plot_confusion(run: Run, predictions: Mapping[str, Described], classes: Sequence[str]) -> None:
    """Which classes were taken for which; rank 0 only."""
    best = [*predictions.values()][-1]
    most_likely = best.vectors.argmax(dim=1).tolist()
    plot(run, "confusion.png", lambda _, path: confusion(best.labels.tolist(), most_likely, classes, path))
