"""Run a function on several CPU ranks."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_ranks(function: Callable[..., Any], ranks: int, *arguments: Any) -> list[Any]:
    """What `function(*arguments)` returns on each of `ranks` gloo ranks: plain values and tensors, in rank order.

    The function is a module's own, so that a fresh process finds it by name.
    """
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_run, args=(function, ranks, arguments, folder), nprocs=ranks)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(ranks)]


def _run(rank: int, function: Callable[..., Any], ranks: int, arguments: tuple[Any, ...], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    torch.save(function(*arguments), Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
