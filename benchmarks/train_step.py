"""ViCC's training steps beside a plain torch loop of the published recipe, in the same run, on the same videos.

python benchmarks/train_step.py [--steps 50] [--workers 8] [--no-deterministic] [--channels-last] [--compile]

On a GPU: the published sizes of one of its four GPUs (32 frames of 128 pixels; 48 videos a step single-stream, 24
cross-stream; 480 rows of queue), in float32 and in fp16 as the published cross-stream runs. Without one: the same
networks on small clips, in float32, on one thread, which says nothing about a GPU.
The plain loop is torch alone, below: torchvision's S3D, a DataLoader, Sinkhorn by exp, LARC tensor by tensor; it logs,
saves and resumes nothing. Each row is a process of its own, so that memory is that row's. A video is two clips a
stream. Without a GPU time is what the processor spent, so that other work on the machine matters little.
"""

import argparse
import contextlib
import io
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.video import s3d

from benchmarks.spent import clock, peak_gb
from tests.conftest import drifting
from tests.tiny_source import make_source
from vssl.artifacts import Artifact, StageFolder
from vssl.backbones.backbone_config import S3DConfig
from vssl.config import build
from vssl.data.clips import ClipDataset
from vssl.data.dataset_config import ClipsConfig
from vssl.data.decode import write_video
from vssl.data.loader import TrainLoader
from vssl.data.views.augment import normalise
from vssl.data.views.augment_config import TwoViewAugmentConfig
from vssl.data.views.drawn import TwoView
from vssl.device import placed, prepared
from vssl.loop import train
from vssl.methods.vicc import ViCC
from vssl.methods.vicc_config import ViCCConfig
from vssl.optim import build_optimizer
from vssl.optim_config import LARCConfig, SGDConfig
from vssl.run import Run, read_journal
from vssl.stages.runtime_config import RuntimeConfig

WARM_UP = 3  # steps that are not counted
LR, MOMENTUM, DECAY, TRUST = 0.6, 0.9, 1e-6, 0.001
PROTOTYPES, DIM, TEMPERATURE, EPSILON, ROUNDS = 300, 128, 0.1, 0.05, 3


@dataclass(frozen=True)
class Size:
    frames: int
    pixels: int
    single: int  # videos a step
    cross: int
    queue: int  # rows
    film: tuple[int, int]  # frames, pixels a side


FULL = Size(frames=32, pixels=128, single=48, cross=24, queue=480, film=(64, 256))
SMALL = Size(frames=8, pixels=32, single=4, cross=4, queue=8, film=(16, 64))


@dataclass(frozen=True)
class Case:
    loop: str  # vssl or plain
    stage: str  # single or cross
    size: Size
    steps: int
    runtime: RuntimeConfig

    @property
    def batch(self) -> int:
        return self.size.single if self.stage == "single" else self.size.cross


@dataclass(frozen=True)
class Step:
    seconds: float
    waited: float  # share of it that was spent waiting for data


@dataclass(frozen=True)
class Measured:
    videos_per_s: float
    waited: float  # share of the time that was spent waiting for data
    peak_gb: float


def measured(case: Case, root: Path, dataset: Artifact, motion: Artifact) -> Measured:
    """Runs in a fresh process."""
    config = build(
        ClipsConfig,
        {
            "dataset": {"name": "films"},
            "modality": "rgb" if case.stage == "single" else "both",
            "num_frames": case.size.frames,
            "crop_size": case.size.pixels,
        },
    )
    view = TwoView(TwoViewAugmentConfig(), case.size.pixels)
    videos = ClipDataset(config, "train", dataset=dataset, motion=motion, seed=0, view=view)
    with prepared(case.runtime) as device, tempfile.TemporaryDirectory(dir=root) as folder:
        steps = _vssl(case, videos, device, Path(folder)) if case.loop == "vssl" else _plain(case, videos, device)
        peak = peak_gb(device)
    counted = steps[WARM_UP:]
    total = sum(step.seconds for step in counted)
    waited = sum(step.waited * step.seconds for step in counted)
    return Measured(case.batch * len(counted) / total, waited / total, peak)


def _vssl(case: Case, videos: ClipDataset, device: torch.device, folder: Path) -> list[Step]:
    """Every step of the product's own loop."""
    config = ViCCConfig(
        main_stream=None if case.stage == "single" else "rgb",
        queue_len=case.size.queue,
        queue_start_epoch=0,
        freeze_prototypes_epochs=0,
        bn_group_size=case.batch,
    )
    method = placed(ViCC.from_config(config, S3DConfig(), global_batch_size=case.batch, seed=0), case.runtime, device)
    runtime = case.runtime
    loader = TrainLoader(videos, case.batch, seed=0, workers=runtime.workers, prefetch=runtime.prefetch, device=device)
    (folder / "checkpoints").mkdir()
    starts: list[float] = []

    def lr_at(step: int) -> float:
        starts.append(clock(device))
        return LR

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            train(
                method,
                build_optimizer(
                    SGDConfig(base_lr=LR, momentum=MOMENTUM, weight_decay=DECAY, larc=LARCConfig(trust=TRUST)),
                    method.parameters(),
                ),
                loader,
                Run(StageFolder(folder)),
                lr_at=lr_at,
                epochs=math.ceil((WARM_UP + case.steps + 1) / loader.steps_per_epoch),
                runtime=runtime,
                device=device,
                identity="benchmark",
            )
    finally:
        loader.close()
    rows = read_journal(folder / "journal.jsonl")[: WARM_UP + case.steps]
    return [
        Step(end - start, row["values"]["perf/data_wait_share"]) for row, start, end in zip(rows, starts, starts[1:])
    ]


def _plain(case: Case, videos: ClipDataset, device: torch.device) -> list[Step]:
    """Every step of a plain loop of the published recipe."""
    main, second = PlainEncoder().to(device), PlainEncoder().to(device).requires_grad_(False).eval()
    prototypes = nn.Linear(DIM, PROTOTYPES, bias=False).to(device)
    parameters = [*main.parameters(), *prototypes.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM)
    half = case.runtime.amp == "fp16"
    scaler = torch.amp.GradScaler(device.type, enabled=half)
    views = 2 if case.stage == "single" else 4
    queue = torch.zeros(views, case.size.queue, DIM, device=device)
    steps = []
    batches = _batches(case, videos, device)
    for _ in range(WARM_UP + case.steps):
        started, asked = clock(device), time.perf_counter()
        streams = next(batches)
        came = time.perf_counter()
        with torch.no_grad():
            prototypes.weight.copy_(F.normalize(prototypes.weight, dim=1))
        with torch.autocast(device.type, torch.float16, enabled=half):
            x = streams["rgb"]
            z = [main(x[:, 0])]
            with torch.no_grad():
                order = torch.randperm(len(x), device=device)
                z.append(main(x[:, 1][order])[order.argsort()])
                if views == 4:
                    z += [second(streams["flow"][:, 1]), second(streams["flow"][:, 0])]
            scores = [prototypes(one) for one in z]
            loss = x.new_zeros(())
            for view in range(views):
                with torch.no_grad():
                    rows = scores[view].float()
                    if queue[view, -1].any():
                        rows = torch.cat([prototypes(queue[view]).float(), rows])
                    queue[view] = torch.cat([z[view].float(), queue[view, : -len(x)]])
                    target = assigned(rows)[-len(x) :]
                others = [other for other in range(views) if other != view]
                for other in others:
                    predicted = torch.log(torch.softmax(scores[other].float() / TEMPERATURE, dim=1))
                    loss = loss - (target * predicted).sum(dim=1).mean() / len(others) / views
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        _adapt_rates(parameters)
        scaler.step(optimizer)
        scaler.update()
        loss.item()  # as the original's running mean
        steps.append(Step(clock(device) - started, (came - asked) / (time.perf_counter() - asked)))
    return steps


class PlainEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = s3d(norm_layer=nn.BatchNorm3d).features
        self.head = nn.Sequential(nn.Conv3d(1024, 1024, 1), nn.ReLU(), nn.Conv3d(1024, DIM, 1))

    def forward(self, clips: Tensor) -> Tensor:
        return F.normalize(self.head(F.adaptive_avg_pool3d(self.backbone(clips), 1)).flatten(1), dim=1)


def assigned(scores: Tensor) -> Tensor:
    """(N, C) -> (N, C), by the paper's Sinkhorn rounds on exp(scores / epsilon)."""
    q = torch.exp(scores / EPSILON).T
    q /= q.sum()
    for _ in range(ROUNDS):
        q /= q.sum(dim=1, keepdim=True) * q.shape[0]
        q /= q.sum(dim=0, keepdim=True) * q.shape[1]
    return (q / q.sum(dim=0, keepdim=True)).T


@torch.no_grad()
def _adapt_rates(parameters: list[nn.Parameter]) -> None:
    for p in parameters:
        size, gradient = p.norm(), p.grad.norm()
        if size != 0 and gradient != 0:
            p.grad.add_(p, alpha=DECAY).mul_(TRUST * size / (gradient + DECAY * size + 1e-8))


class _Samples(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __init__(self, videos: ClipDataset) -> None:
        self.videos = videos

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.videos.sample(0, index)["streams"]


def _batches(case: Case, videos: ClipDataset, device: torch.device) -> Iterator[Mapping[str, Tensor]]:
    loader: Any = torch.utils.data.DataLoader(
        _Samples(videos),
        case.batch,
        shuffle=True,
        drop_last=True,
        num_workers=case.runtime.workers,
        pin_memory=device.type == "cuda",
        persistent_workers=case.runtime.workers > 0,
    )
    while True:
        for streams in loader:
            yield {name: normalise(views.to(device, non_blocking=True)) for name, views in streams.items()}


def main() -> int:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="ViCC's training steps beside a plain loop of the published recipe.")
    parser.add_argument("--steps", type=int, default=50 if on_gpu else 10)
    parser.add_argument("--workers", type=int, default=min(12, os.cpu_count() or 1) if on_gpu else 0)
    parser.add_argument("--deterministic", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    chosen = parser.parse_args()
    size = FULL if on_gpu else SMALL
    where = torch.cuda.get_device_name() if on_gpu else f"{os.cpu_count()} cores, no GPU"
    print(f"{where}: {size.frames} frames of {size.pixels} pixels, {chosen.steps} steps after {WARM_UP} to warm up")
    print(f"{'stage':<8}{'precision':<11}{'loop':<7}{'videos/s':>10}{'waiting for data':>18}{'peak memory':>14}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        frames, side = size.film
        dataset, motion = make_source(root, train=2 * size.single, test=1, frames=frames, side=side, write=_write_film)
        for stage in ("single", "cross"):
            for amp in ("off", "fp16") if on_gpu else ("off",):
                runtime = build(
                    RuntimeConfig,
                    {
                        **{"amp": amp, "workers": chosen.workers, "deterministic": chosen.deterministic},
                        **{"channels_last": chosen.channels_last, "compile": chosen.compile},
                        **{"threads": 1, "save_every_min": 1e6},
                    },
                )
                rows = {}
                for loop in ("plain", "vssl"):
                    case = Case(loop, stage, size, chosen.steps, runtime)
                    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                        row = rows[loop] = fresh.submit(measured, case, root, dataset, motion).result()
                    precision = "float32" if amp == "off" else amp
                    print(
                        f"{stage:<8}{precision:<11}{loop:<7}{row.videos_per_s:>10.2f}{row.waited:>18.1%}"
                        f"{row.peak_gb:>11.2f} GB",
                        flush=True,
                    )
                speed = rows["vssl"].videos_per_s / rows["plain"].videos_per_s
                memory = rows["vssl"].peak_gb / rows["plain"].peak_gb
                print(f"{'':<19}{'ratio':<7}{speed:>10.2f}{'':>18}{memory:>11.2f}", flush=True)
    return 0


def _write_film(path: Path, number: int, frames: int, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, drifting(frames, side, side, seed=number), codec="libx264", fps=25, options={"preset": "fast"})


if __name__ == "__main__":
    sys.exit(main())
