"""A table of training steps, each row measured in a process of its own, so that memory is that row's."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch


@dataclass(frozen=True)
class Measured:
    clips_per_s: float
    peak_gb: float
    loss: float


def where() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"one of {os.cpu_count()} cores, no GPU"


def print_rows(names: Sequence[str], cases: Mapping[tuple[str, ...], Any], measured: Callable[[Any], Measured]) -> None:
    """Measure and print row by row, and the last one over the first; a processor that imitates bf16 leaves it out.

    Args:
        names: of the columns that tell rows apart.
        cases: what stands in those -> what is measured.
        measured: a function of a module, which the fresh process imports.
    """
    print(f"{_line(names)}{'clips/s':>9}{'peak memory':>14}{'loss':>9}", flush=True)
    has_bf16 = torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    rows = []
    for words, case in cases.items():
        if "bf16" in words and not has_bf16:
            print(f"{_line(words)}  left out: this processor has no instructions for it", flush=True)
            continue
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            row = fresh.submit(measured, case).result()
        rows.append(row)
        print(f"{_line(words)}{row.clips_per_s:>9.2f}{row.peak_gb:>11.2f} GB{row.loss:>9.4f}", flush=True)
    speed, memory = rows[-1].clips_per_s / rows[0].clips_per_s, rows[-1].peak_gb / rows[0].peak_gb
    print(f"last over first: {speed:.2f} times the clips/s, {memory:.2f} of the memory")


def _line(words: Sequence[str]) -> str:
    first, *others = words
    return f"{first:<7}{''.join(f'{word:<11}' for word in others)}"
