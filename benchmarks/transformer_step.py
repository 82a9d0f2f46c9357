"""Training steps of TimeSformer-B: vssl's in bf16, beside plain float32 and the original's attention, in one run.

python benchmarks/transformer_step.py [--steps 30] [--batch 8]

On a GPU: 8 frames of 224 pixels, the published 8 clips of one GPU. Without one: the same clips, two at a time, and one
of the twelve blocks, on one thread, which says nothing about a GPU; a processor that would have to imitate bf16 leaves
its rows out. Clips lie on the device already, so that no loader is measured. The plain loop is torch alone: forward,
backward, SGD. In the original's formulation attention makes its matrix of shares (softmax of queries and keys, then a
product with the values); vssl's never does. Each row is a process of its own, so that memory is that row's. All start
from the same weights and see the same clips; the loss is the last step's. Without a GPU time is what the processor
spent, so that other work on the machine matters little.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.one_batch import own_loop
from benchmarks.rows import Measured, print_rows, where
from benchmarks.spent import clock, peak_gb
from vssl.backbones.backbone_config import TimeSformerConfig
from vssl.backbones.build import build_backbone
from vssl.backbones.vit_video import Attention
from vssl.device import placed, prepared
from vssl.methods.supervised import Supervised
from vssl.optim_config import SGDConfig
from vssl.randomness import seeded
from vssl.stages.runtime_config import RuntimeConfig

CLASSES = 600
FULL = TimeSformerConfig()
ONE_BLOCK = TimeSformerConfig(depth=1)
OPTIM = SGDConfig(base_lr=0.005, nesterov=True, weight_decay=1e-4)

Loop = Literal["plain", "vssl"]
Precision = Literal["float32", "bf16"]
Formulation = Literal["matrix", "fused"]
ROWS: tuple[tuple[Loop, Precision, Formulation], ...] = (
    ("plain", "float32", "matrix"),
    ("plain", "float32", "fused"),
    ("plain", "bf16", "matrix"),
    ("vssl", "float32", "fused"),
    ("vssl", "bf16", "fused"),
)


@dataclass(frozen=True)
class Case:
    loop: Loop
    precision: Precision
    attention: Formulation
    config: TimeSformerConfig
    batch: int
    warm_up: int  # steps that are not counted
    steps: int


def measured(case: Case) -> Measured:
    """Runs in a fresh process."""
    if case.attention == "matrix":
        Attention.forward = _by_matrix
    runtime = RuntimeConfig(
        amp="bf16" if case.precision == "bf16" else "off", deterministic=False, threads=1, save_every_min=1e6
    )
    with prepared(runtime) as device:
        with seeded(0):
            method = Supervised(build_backbone(case.config), CLASSES, dropout=0.0, seed=0)
        method = placed(method, runtime, device)
        batch = _batch(case, device)
        if case.loop == "vssl":
            seconds, loss = own_loop(method, OPTIM, batch, runtime, device, warm_up=case.warm_up, steps=case.steps)
        else:
            seconds, loss = _plain(case, method, batch, device)
        peak = peak_gb(device)
    return Measured(case.batch * case.steps / seconds, peak, loss)


def _by_matrix(self: Attention, tokens: Tensor) -> Tensor:
    """The original's formulation."""
    value = self._heads(tokens)[2]
    output: Tensor = self.proj((self.shares(tokens) @ value).transpose(1, 2).flatten(2))
    return output


def _batch(case: Case, device: torch.device) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    side = case.config.image_size
    clips = torch.randn(case.batch, 1, 3, case.config.num_frames, side, side, generator=generator)
    labels = torch.randint(CLASSES, (case.batch,), generator=generator)
    return {"streams": {"rgb": clips.to(device)}, "labels": labels.to(device)}


def _plain(case: Case, method: Supervised, batch: Mapping[str, Any], device: torch.device) -> tuple[float, float]:
    optimizer = torch.optim.SGD(method.parameters(), lr=OPTIM.base_lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    clips, labels = batch["streams"]["rgb"][:, 0], batch["labels"]
    method.train()
    for step in range(case.warm_up + case.steps):
        if step == case.warm_up:
            started = clock(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            pooled = method.backbone(clips)
        loss = F.cross_entropy(method.head(method.head.pool(pooled)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return clock(device) - started, loss.item()


def main() -> int:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="Training steps of TimeSformer-B, in bf16 and plainly.")
    parser.add_argument("--steps", type=int, default=30 if on_gpu else 5)
    parser.add_argument("--batch", type=int, default=8 if on_gpu else 2)
    chosen = parser.parse_args()
    config, warm_up = (FULL, 3) if on_gpu else (ONE_BLOCK, 1)
    print(
        f"{where()}: {config.depth} of {FULL.depth} blocks, {config.num_frames} frames of {config.image_size} pixels, "
        f"{chosen.batch} clips a step, {chosen.steps} steps after {warm_up} to warm up"
    )
    cases = {row: Case(*row, config, chosen.batch, warm_up, chosen.steps) for row in ROWS}
    print_rows(("loop", "precision", "attention"), cases, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
