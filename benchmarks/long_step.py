"""One training step of CARL on views of 240 frames: its memory and its time, activations kept or computed again.

python benchmarks/long_step.py [--recipe carl_pouring] [--frames 240] [--side 224] [--threads 1] [--recompute]

The network, the optimiser and the views' length and size are the recipe's, for one video in two views, in float32:
forward, backward, clipped gradients, update. Pixels are noise and lie in memory already, so that no loader is measured.
Each row is a process of its own, so that memory is that row's; with --recompute or --no-recompute there is one row. On
a CPU memory is all that the process ever held, Python and libraries too, and seconds are those of the processor.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

import numpy as np
import torch

from benchmarks.spent import clock, peak_gb
from launch.compose import Composer
from vssl.config import build
from vssl.data.sampling.samplers import Long
from vssl.data.sampling.sampling_config import LongConfig
from vssl.device import placed, prepared
from vssl.methods import Position
from vssl.methods.carl import CARL
from vssl.methods.carl_config import CARLConfig
from vssl.optim import build_optimizer, clip_of
from vssl.randomness import stream
from vssl.stages.pretrain_config import PretrainConfig
from vssl.stages.runtime_config import RuntimeConfig

TOTAL = 300  # frames of the video


@dataclass(frozen=True)
class Case:
    config: PretrainConfig
    frames: int
    side: int
    threads: int
    recompute: bool


@dataclass(frozen=True)
class Measured:
    seconds: float
    peak_gb: float
    loss: float


def measured(case: Case) -> Measured:
    """Runs in a fresh process."""
    assert isinstance(case.config.method, CARLConfig)
    runtime = RuntimeConfig(amp="off", deterministic=False, threads=case.threads)
    with prepared(runtime) as device:
        of = replace(case.config.method, recompute=case.recompute)
        method = CARL.from_config(of, case.config.backbone, global_batch_size=1, seed=0)
        method = placed(method, runtime, device).train()
        optimizer, clip = build_optimizer(case.config.optim, method.parameters()), clip_of(case.config.optim)
        batch, position = _batch(case, device), Position(step=0, epoch=0, steps_per_epoch=1, epochs=1)
        started = clock(device)
        loss, _ = method(batch, position)
        loss.backward()
        clip(optimizer)
        optimizer.step()
        seconds = clock(device) - started
        peak = peak_gb(device)
    return Measured(seconds, peak, loss.item())


def _batch(case: Case, device: torch.device) -> dict[str, Any]:
    sampling, generator = case.config.data.sampling, stream("long step")
    assert isinstance(sampling, LongConfig)
    views = Long(case.frames, sampling).draw_views(TOTAL, 2, generator)
    clips = torch.randn(1, 2, 3, case.frames * sampling.num_context_frames, case.side, case.side, generator=generator)
    return {
        "streams": {"rgb": clips.to(device)},
        "steps": torch.from_numpy(np.stack([view.steps for view in views])[None]),
        "lengths": torch.tensor([TOTAL]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory and time of a training step of CARL on a long video.")
    parser.add_argument("--recipe", default="carl_pouring")
    parser.add_argument("--frames", type=int, help="slots of a view; the recipe's unless given")
    parser.add_argument("--side", type=int, help="pixels; the recipe's unless given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--recompute", action=argparse.BooleanOptionalAction, help="one row alone")
    chosen = parser.parse_args()
    config = build(PretrainConfig, Composer(CHECKOUT / "configs").compose("pretrain", {"recipe": chosen.recipe}))
    frames, side = chosen.frames or config.data.num_frames, chosen.side or config.data.crop_size
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {chosen.threads} threads"
    print(f"{where}: {chosen.recipe}, one video in two views of {frames} frames of {side} x {side}, float32")
    print(f"{'activations':<13}{'peak memory':>14}{'seconds':>10}{'loss':>9}", flush=True)
    for recompute in (True, False) if chosen.recompute is None else (chosen.recompute,):
        case = Case(config, frames, side, chosen.threads, recompute)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            row = fresh.submit(measured, case).result()
        name = "recomputed" if recompute else "kept"
        print(f"{name:<13}{row.peak_gb:>11.2f} GB{row.seconds:>10.1f}{row.loss:>9.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
