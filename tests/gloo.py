"""Run a function on several CPU ranks."""

import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# Ranks are forked from a process that has imported what takes seconds.
multiprocessing.set_forkserver_preload(["pandas", "pytest", "torch.distributed", "vssl.stages.pretrain"])


def start_ranks(function: Callable[..., None], arguments: tuple[Any, ...], ranks: int) -> None:
    """`function(rank, *arguments)` in a process for each rank, until all are done.

    The function is a module's own, so that a fresh process finds it by name.
    """
    mp.start_processes(function, args=arguments, nprocs=ranks, start_method="forkserver")


def run_ranks(function: Callable[..., Any], ranks: int, *arguments: Any) -> list[Any]:
    """What `function(*arguments)` returns on each of `ranks` gloo ranks: plain values and tensors, in rank order."""
    with tempfile.TemporaryDirectory() as folder:
        start_ranks(_run, (function, ranks, arguments, folder), ranks)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(ranks)]


def _run(rank: int, function: Callable[..., Any], ranks: int, arguments: tuple[Any, ...], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    torch.save(function(*arguments), Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
