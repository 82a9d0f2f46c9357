"""What pretraining has learned so far, by a vote of nearest neighbours: no label is trained on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vssl.artifacts import Inputs
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.drawn import TestView
from vssl.evals.features import unit
from vssl.evals.knn import knn_scores
from vssl.evals.metrics import chance_top1, top_k
from vssl.nn.precise_bn import share_statistics
from vssl.run import Run, StageError
from vssl.stages.per_video import describe
from vssl.stages.pretrain_config import PretrainConfig
from vssl.stages.sources import clips

_CENTRE = TestViewConfig(centre_crop=0, num_clips=1)  # one clip of a video, in its largest central square

Monitor = Callable[[int], dict[str, float]]


def knn_monitor(config: PretrainConfig, method: Any, inputs: Inputs, run: Run, *, device: torch.device) -> Monitor:
    """A function from epochs done to `knn/top1`, `knn/top5` and `knn/chance_top1`; to nothing where it is not due.

    The original keeps the training clips' projections as they come, with noise for those that have not come yet, and
    saves them with each checkpoint. Here both splits are described anew, by one central clip each: what is reported is
    a function of the weights, and nothing needs to be saved. Classes are those of the dataset. It is the method's
    `backbone` that is asked, in evaluation mode, since its features are what later stages read: a departure from the
    original, which asks the projector, as `features: projector` does.

    Raises:
        StageError: a split has videos without a label, or there is no such split.
    """
    watched = config.knn
    if watched is None:
        return lambda epochs: {}
    view = TestView(_CENTRE, config.data.crop_size)
    bank, queries = (
        clips(config.data, split, inputs, seed=config.seed, view=view)
        for split in (config.data.train_split, watched.test_split)
    )
    for split, dataset in ((config.data.train_split, bank), (watched.test_split, queries)):
        if (dataset.labels < 0).any():
            raise StageError(
                f"knn is given and videos of the split {split} have no label; set knn to null, or give labels"
            )

    projected = watched.features == "projector"

    def per_window(windows: Tensor) -> Tensor:
        return unit(method.project(windows) if projected else method.backbone(windows).float().mean(dim=(2, 3, 4)))

    def look(epochs: int) -> dict[str, float]:
        if epochs % watched.every_epochs and epochs != config.epochs:
            return {}
        share_statistics(method if projected else method.backbone)
        training = method.training
        method.eval()
        try:
            near, asked = (
                describe(
                    dataset,
                    per_window,
                    run,
                    runtime=config.runtime,
                    batch_size=watched.batch_size,
                    device=device,
                )
                for dataset in (bank, queries)
            )
        finally:
            method.train(training)
        scores = knn_scores(
            asked.vectors,
            near.vectors,
            near.labels,
            num_classes=len(bank.classes),
            k=watched.k,
            temperature=watched.temperature,
        )
        return {
            "knn/top1": top_k(scores, asked.labels, 1),
            "knn/top5": top_k(scores, asked.labels, 5),
            "knn/chance_top1": chance_top1(asked.labels),
        }

    return look
