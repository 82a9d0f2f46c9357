"""How well test videos are told apart while a classifier is trained: a curve to look at, by which nothing is chosen."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vssl.artifacts import Inputs
from vssl.data.views.view_makers import view_for_testing
from vssl.evals.metrics import top_k
from vssl.nn.precise_bn import share_statistics
from vssl.run import Run
from vssl.stages.finetune_config import FinetuneConfig
from vssl.stages.linear_config import LinearConfig
from vssl.stages.per_video import describe
from vssl.stages.sources import clips

_TINY = 1e-30  # a probability of float32 whose logarithm is finite


def validation(
    config: LinearConfig | FinetuneConfig,
    method: nn.Module,
    classify: Callable[[Tensor], Tensor],
    inputs: Inputs,
    run: Run,
    *,
    device: torch.device,
) -> Callable[[int], dict[str, float]]:
    """A function from epochs done to `val/top1`, `val/top5` and `val/loss`; to nothing where it is not due.

    One clip of each test video in the middle of its frames, by the stage's own test view otherwise. The network is left
    as it was found, so that training is the same with and without.

    Args:
        config: of the stage.
        method: what is trained.
        classify: (n, 3, T, H, W) clips -> (n, K) logits of it, in eval mode.
        inputs: of the stage.
        run: the stage's execution.
        device: where to compute.
    """
    every = config.validate_every_epochs
    if not every:
        return lambda epochs: {}
    view = view_for_testing(replace(config.test_view, num_clips=1, num_crops=1), config.data.crop_size)
    dataset = clips(config.data, config.data.test_split, inputs, seed=config.seed, view=view)

    def per_window(windows: Tensor) -> Tensor:
        return classify(windows).softmax(dim=1)

    def look(epochs: int) -> dict[str, float]:
        if epochs % every:
            return {}
        share_statistics(method)
        training = method.training
        method.eval()
        try:
            found = describe(
                dataset, per_window, run, runtime=config.runtime, batch_size=config.global_batch_size, device=device
            )
        finally:
            method.train(training)
        return {
            "val/top1": top_k(found.vectors, found.labels, 1),
            "val/top5": top_k(found.vectors, found.labels, 5),
            "val/loss": F.nll_loss(found.vectors.clamp(min=_TINY).log(), found.labels).item(),
        }

    return look
