"""Training steps of the product's own loop on one batch that lies on the device already: no loader is measured."""

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.spent import clock
from vssl.artifacts import StageFolder
from vssl.loop import train
from vssl.optim import build_optimizer
from vssl.optim_config import SGDConfig
from vssl.run import Run, read_journal
from vssl.stages.runtime_config import RuntimeConfig


class _OneBatch:
    """The same batch at every step."""

    replaced: tuple[str, ...] = ()

    def __init__(self, batch: Mapping[str, Any], steps: int) -> None:
        self.batch, self.steps_per_epoch = batch, steps

    def batches(self, epoch: int, start_step: int) -> Iterator[Mapping[str, Any]]:
        for _ in range(start_step, self.steps_per_epoch):
            yield self.batch


def own_loop(
    method: nn.Module,
    optim: SGDConfig,
    batch: Mapping[str, Any],
    runtime: RuntimeConfig,
    device: torch.device,
    *,
    warm_up: int,
    steps: int,
) -> tuple[float, float]:
    """Seconds of `steps` steps after `warm_up` of them, with what the loop reports of each, and the last one's loss.

    The learning rate is constant. Training is one epoch, one step longer than what is measured.
    """
    clocks: list[float] = []

    def lr_at(step: int) -> float:
        clocks.append(clock(device))
        return optim.base_lr

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoints").mkdir()
        with contextlib.redirect_stdout(io.StringIO()):
            train(
                method,
                build_optimizer(optim, method.parameters()),
                _OneBatch(batch, warm_up + steps + 1),
                Run(StageFolder(Path(folder))),
                lr_at=lr_at,
                epochs=1,
                runtime=runtime,
                device=device,
                identity="benchmark",
            )
        rows = read_journal(Path(folder) / "journal.jsonl")
    last = warm_up + steps
    return clocks[last] - clocks[warm_up], rows[last - 1]["values"]["loss"]
