"""Colours, blur and flips of clips: where they are read, one by one, or a batch at once on the device that trains.

python benchmarks/looks.py [--clips 16] [--frames 16] [--side 128] [--rounds 5] [--device cpu]

Both get the same clips and the same draws, of ViCC's strong views, and take turns. The device is a GPU if there is one.
On one core clips are given their looks as a loader process does it; what a training saves is that process's time.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vssl.data.views.augment_config import TwoViewAugmentConfig
from vssl.data.views.drawn import draw_coin, draw_jitter
from vssl.data.views.looks import Look, apply_looks
from vssl.randomness import stream


def drawn(number: int, frames: int) -> Look:
    """What a strong view of pretraining draws."""
    config, generator = TwoViewAugmentConfig(), stream("look", number)
    jitter = draw_jitter(config.jitter, generator)
    channels = tuple(torch.randint(3, (2 * frames,), generator=generator).tolist())
    sigma = 0.1 + 1.9 * torch.rand((), generator=generator).item()
    return Look(
        jitter=jitter if draw_coin(config.jitter_probability, generator) else None,
        grey_channels=channels if draw_coin(config.grey_probability, generator) else None,
        blur_sigma=sigma if draw_coin(config.blur_probability, generator) else None,
        flip=draw_coin(config.flip_probability, generator),
    )


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of the processor, or until a GPU is done."""
    if device.type == "cpu":
        begin = time.process_time()
        work()
        return time.process_time() - begin
    torch.cuda.synchronize(device)
    begin = time.perf_counter()
    work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of colours, blur and flips, clip by clip and batch by batch.")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--side", type=int, default=128, help="pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    looks = [drawn(number, options.frames) for number in range(options.clips)]
    shape = (options.clips, 3, options.frames, options.side, options.side)
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, generator=stream("clips"))
    there = clips.to(device)

    def one_by_one() -> list[torch.Tensor]:
        return [look.apply(clip.transpose(0, 1), 0) for look, clip in zip(looks, clips)]

    def at_once() -> torch.Tensor:
        return apply_looks(there.clone(), looks, 0)

    alone = torch.stack(one_by_one()).transpose(1, 2).int()  # both once before they are timed
    differs = (alone - at_once().cpu().int()).abs()
    share = 100 * (differs > 0).double().mean()
    print(f"values differ by {int(differs.max())} of 255 levels at most, and {share:.2f} % of them at all")
    alone_s, together_s = [], []
    for _ in range(options.rounds):
        alone_s.append(seconds(one_by_one, torch.device("cpu")))
        together_s.append(seconds(at_once, device))
    for name, times in (("clip by clip, one core", alone_s), (f"batch by batch, {device}", together_s)):
        print(f"{name:<24}{options.clips / statistics.median(times):8.1f} clips/s")
    print(f"batch by batch is {statistics.median(a / b for a, b in zip(alone_s, together_s)):.2f} times as fast")


if __name__ == "__main__":
    main()
