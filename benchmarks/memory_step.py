"""FGKVMem's pretraining steps on R3D-18: vssl's, in float32 and bf16, beside a plain float32 loop of the same recipe.

python benchmarks/memory_step.py [--steps 50] [--batch 64]

On a GPU: the published 64 videos of UCF101, two clips of 16 frames of 112 pixels each. Without one: the same network on
two videos' clips of 8 frames of 32 pixels, on one thread, which says nothing about a GPU; a processor that would have
to imitate bf16 leaves its row out. Clips lie on the device already, so that no loader is measured. The plain loop is
torch alone, below: torchvision's R3D-18, memory, concepts, moving average, LARS tensor by tensor; as in the public code
each clip has its backward pass before the other's forward, so that it holds the activations of one. Each row is a
process of its own, so that memory is that row's. All start from the same weights and see the same clips; the loss is
the last step's, of both directions. Without a GPU time is what the processor spent.
"""

import argparse
import copy
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.video import r3d_18

from benchmarks.one_batch import own_loop
from benchmarks.rows import Measured, print_rows, where
from benchmarks.spent import clock, peak_gb
from vssl.backbones.backbone_config import R3D18Config
from vssl.device import placed, prepared
from vssl.methods.fgkvmem import FGKVMem
from vssl.methods.fgkvmem_config import FGKVMemConfig
from vssl.optim_config import LARCConfig, SGDConfig
from vssl.stages.runtime_config import RuntimeConfig

OPTIM = SGDConfig(
    base_lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-6, larc=LARCConfig(trust=0.001), decay_1d=False
)
TEMPERATURE, SCALE, DECAY = 0.5, 16, 0.996
TAU, W_RECON, W_ALIGN = 0.05, 0.1, 0.01
FEATURES, HIDDEN, DIM, SLOTS, CONCEPTS = 512, 4096, 256, 4096, 4096

Loop = Literal["plain", "vssl"]
Precision = Literal["float32", "bf16"]
ROWS: tuple[tuple[Loop, Precision], ...] = (("plain", "float32"), ("vssl", "float32"), ("vssl", "bf16"))


@dataclass(frozen=True)
class Case:
    loop: Loop
    precision: Precision
    frames: int
    side: int
    batch: int  # videos
    warm_up: int  # steps that are not counted
    steps: int


def measured(case: Case) -> Measured:
    """Runs in a fresh process."""
    amp: Literal["bf16", "off"] = "bf16" if case.precision == "bf16" else "off"
    runtime = RuntimeConfig(amp=amp, deterministic=False, threads=1, save_every_min=1e6)
    with prepared(runtime) as device:
        generator = torch.Generator().manual_seed(0)
        clips = torch.randn(case.batch, 2, 3, case.frames, case.side, case.side, generator=generator).to(device)
        method = FGKVMem.from_config(FGKVMemConfig(), R3D18Config(), global_batch_size=case.batch, seed=0)
        if case.loop == "vssl":
            method = placed(method, runtime, device)
            batch = {"streams": {"rgb": clips}, "labels": torch.zeros(case.batch)}  # the loop counts videos by labels
            seconds, loss = own_loop(method, OPTIM, batch, runtime, device, warm_up=case.warm_up, steps=case.steps)
        else:
            network = Plain(method).to(device)
            del method
            seconds, loss = _plain(case, network, clips, device)
        peak = peak_gb(device)
    return Measured(2 * case.batch * case.steps / seconds, peak, loss)


class Plain(nn.Module):
    """The published networks, with the weights of a method."""

    def __init__(self, method: FGKVMem) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([_trunk(), _mlp(FEATURES, HIDDEN, DIM)])
        self.query = _mlp(DIM, DIM, DIM)
        self.key, self.value = nn.Parameter(torch.empty(SLOTS, DIM)), nn.Parameter(torch.empty(SLOTS, DIM))
        self.codes = nn.ModuleList(nn.Linear(DIM, CONCEPTS, bias=False) for _ in range(2))
        self.dictionaries = nn.ModuleList(_mlp(CONCEPTS, FEATURES, FEATURES) for _ in range(2))
        memory, concepts = method.predictor, method.concepts
        assert concepts is not None
        theirs = (
            *(method.online.backbone, method.online.projector, memory.query),
            *(concepts.source, concepts.target, concepts.source_dictionary, concepts.target_dictionary),
        )
        for own, module in zip((*self.encoder, self.query, *self.codes, *self.dictionaries), theirs, strict=True):
            _copy(own.parameters(), module.parameters())
        _copy((self.key, self.value), (memory.key, memory.value))


def _trunk() -> nn.Module:
    """torchvision's, its last stage keeping time; pooled."""
    network = r3d_18()
    first = network.layer4[0]
    first.conv1[0] = nn.Conv3d(256, 512, 3, (1, 2, 2), padding=(2, 1, 1), dilation=(2, 1, 1), bias=False)
    first.downsample[0] = nn.Conv3d(256, 512, 1, (1, 2, 2), bias=False)
    network.fc = nn.Identity()
    return network


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


@torch.no_grad()
def _copy(own: Iterable[Tensor], theirs: Iterable[Tensor]) -> None:
    for one, other in zip(own, theirs, strict=True):
        one.copy_(other)


def _plain(case: Case, network: Plain, clips: Tensor, device: torch.device) -> tuple[float, float]:
    teacher = copy.deepcopy(network.encoder).requires_grad_(False)
    centre = torch.zeros(CONCEPTS, device=device)
    parameters = list(network.parameters())
    optimizer = torch.optim.SGD(parameters, lr=OPTIM.base_lr, momentum=OPTIM.momentum, nesterov=True)
    for step in range(case.warm_up + case.steps):
        if step == case.warm_up:
            started = clock(device)
        if step:
            progress = step / (case.warm_up + case.steps + 1)
            decay = 1 - (1 - DECAY) * (math.cos(math.pi * progress) + 1) / 2
            with torch.no_grad():
                for mean, newest in zip(teacher.parameters(), network.encoder.parameters()):
                    mean.mul_(decay).add_(newest, alpha=1 - decay)
        optimizer.zero_grad()
        with torch.no_grad():
            targets = [_encoded(teacher, clips[:, clip]) for clip in (0, 1)]
        total = 0.0
        for clip in (0, 1):
            loss = _direction(network, clips[:, clip], *targets[1 - clip], centre)
            loss.backward()
            total += loss.item()
        _adapt_rates(parameters)
        optimizer.step()
    return clock(device) - started, total


def _encoded(encoder: nn.ModuleList, clips: Tensor) -> tuple[Tensor, Tensor]:
    trunk, projector = encoder
    features = trunk(clips)
    return features, projector(features)


def _direction(network: Plain, clips: Tensor, target_y: Tensor, target_z: Tensor, centre: Tensor) -> Tensor:
    y, z = _encoded(network.encoder, clips)
    cosine = F.normalize(network.query(z), dim=1) @ F.normalize(network.key, dim=1).T
    found = torch.softmax(SCALE * cosine, dim=1) @ network.value
    loss = -F.cosine_similarity(found, target_z, dim=1).mean() / TEMPERATURE
    codes, target_codes = network.codes[0](z), network.codes[1](target_z)
    for dictionary, code, features in zip(network.dictionaries, (codes, target_codes), (y.detach(), target_y)):
        again = dictionary(code)
        loss = loss + W_RECON * (1 - F.cosine_similarity(again, features, dim=1)).abs().sum() / again.numel()
    with torch.no_grad():
        shares = torch.softmax((target_codes - centre) / TAU, dim=1)
        centre.mul_(0.9).add_(target_codes.mean(dim=0), alpha=0.1)
    return loss - W_ALIGN * (shares * F.log_softmax(codes / TAU, dim=1)).sum(dim=1).mean()


@torch.no_grad()
def _adapt_rates(parameters: list[nn.Parameter]) -> None:
    decay = OPTIM.weight_decay
    for p in parameters:
        if p.ndim > 1 and p.grad is not None:
            size, gradient = p.norm(), p.grad.norm()
            if size != 0 and gradient != 0:
                p.grad.add_(p, alpha=decay).mul_(0.001 * size / (gradient + decay * size + 1e-8))


def main() -> int:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="FGKVMem's pretraining steps, beside a plain loop of the recipe.")
    parser.add_argument("--steps", type=int, default=50 if on_gpu else 3)
    parser.add_argument("--batch", type=int, default=64 if on_gpu else 2)
    chosen = parser.parse_args()
    frames, side, warm_up = (16, 112, 3) if on_gpu else (8, 32, 1)
    print(
        f"{where()}: R3D-18, two clips of {frames} frames of {side} pixels of each of {chosen.batch} videos, "
        f"{chosen.steps} steps after {warm_up} to warm up"
    )
    cases = {row: Case(*row, frames, side, chosen.batch, warm_up, chosen.steps) for row in ROWS}
    print_rows(("loop", "precision"), cases, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
