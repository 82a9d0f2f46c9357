"""The published network on clips of the published size: a step of each stage, by the training loop.

In bfloat16 where the processor has it, or where VSSL_BFLOAT16 is set; else in float32.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.full_size import AMP, SHAPE
from vssl.artifacts import StageFolder
from vssl.backbones.backbone_config import S3DConfig
from vssl.loop import train
from vssl.methods.vicc import ViCC
from vssl.methods.vicc_config import ViCCConfig
from vssl.optim import build_optimizer
from vssl.optim_config import LARCConfig, SGDConfig
from vssl.run import Run, read_journal
from vssl.stages.runtime_config import RuntimeConfig

BATCH = 2


class OneBatch:
    """One step of two videos: two clips in each stream."""

    steps_per_epoch = 1
    replaced: list[str] = []  # noqa: RUF012

    def __init__(self, modalities: tuple[str, ...]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.streams = {modality: torch.randn(BATCH, 2, *SHAPE, generator=generator) for modality in modalities}

    def batches(self, epoch: int, start_step: int) -> Iterator[Mapping[str, Any]]:
        yield {"streams": self.streams, "labels": torch.zeros(BATCH, dtype=torch.int64)}


@pytest.mark.parametrize("main_stream", [None, "flow"])
def test_full_size_s3d_steps_once(main_stream: str | None, tmp_path: Path) -> None:
    config = ViCCConfig(main_stream=main_stream, bn_group_size=BATCH, freeze_prototypes_epochs=0, queue_start_epoch=0)
    method = ViCC.from_config(config, S3DConfig(), global_batch_size=BATCH, seed=31)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items() if isinstance(tensor, torch.Tensor)}
    (tmp_path / "stage" / "checkpoints").mkdir(parents=True)
    run = Run(StageFolder(tmp_path / "stage"))
    train(
        method,
        build_optimizer(SGDConfig(base_lr=0.6, weight_decay=1e-6, larc=LARCConfig()), method.parameters()),
        OneBatch(("rgb",) if main_stream is None else ("rgb", "flow")),
        run,
        lr_at=lambda step: 0.6,
        epochs=1,
        runtime=RuntimeConfig(amp=AMP),
        device=torch.device("cpu"),
        identity="full-size",
    )
    (row,) = read_journal(tmp_path / "stage" / "journal.jsonl")
    assert row["values"]["loss"] == pytest.approx(math.log(300), abs=0.5)
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, method.state_dict()[name])}
    trained = {name for name in before if not name.startswith("encoders.1.")}
    assert changed == trained, "every parameter and every running statistic of the main stream"
    assert all(len(queue.rows) == 1920 and queue.rows[BATCH - 1].any() for queue in method.queues or [])
