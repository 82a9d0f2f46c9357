"""Rank, world size and the few collectives that the library uses. Everything works in a single process without a group.

CPU ranks talk through gloo, GPU ranks through NCCL. Every collective below must be called by all ranks in the same
order; a decision that only one rank can see (a clock, a signal) is therefore agreed on first, by `any_true` or
`broadcast_object`, and acted on afterwards.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from vssl.rendezvous import Place, meet, place_from_environment


def is_initialised() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if is_initialised() else 0


def world_size() -> int:
    return dist.get_world_size() if is_initialised() else 1


def is_main() -> bool:
    """Whether this process writes: rank 0."""
    return rank() == 0


@contextmanager
def joined(rendezvous: Path | None = None, *, device: str = "auto", timeout_s: float = 120.0) -> Iterator[Place]:
    """Join the process group that the environment describes, if it describes one, for the length of a block.

    A group that is open already is used and left open.

    Args:
        rendezvous: file through which the ranks of our own jobs meet; None: the variable VSSL_RENDEZVOUS.
        device: `cpu`, `cuda` or `auto`; decides between gloo and NCCL.
        timeout_s: seconds to wait for the other ranks.

    Raises:
        StageError: a partial set of variables, or ranks that did not come in time or disagree on the world size.
    """
    place = place_from_environment(os.environ, rendezvous)
    alone = place.rendezvous is None and place.master is None
    if is_initialised() or alone:
        yield place
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
    meet(place, backend="nccl" if on_gpu else "gloo", timeout_s=timeout_s)
    try:
        yield place
    finally:
        dist.destroy_process_group()


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum over ranks, without gradient; the argument is left as it is."""
    total = tensor.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def all_reduce_max(tensor: Tensor) -> Tensor:
    """Largest value over ranks, elementwise, without gradient."""
    largest = tensor.detach().clone()
    if world_size() > 1:
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest


def all_gather_cat(tensor: Tensor) -> Tensor:
    """(N, ...) tensors of one shape on all ranks, concatenated in rank order to (W * N, ...), without gradient."""
    if world_size() == 1:
        return tensor.detach()
    local = tensor.detach().contiguous()
    parts = [torch.empty_like(local) for _ in range(world_size())]
    dist.all_gather(parts, local)
    return torch.cat(parts)


def all_gather_cat_with_grad(tensor: Tensor) -> Tensor:
    """`all_gather_cat` through which each rank's tensor gets the gradients that all ranks have for it, summed."""
    gathered: Tensor = _Gathered.apply(tensor)
    return gathered


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        return all_gather_cat(tensor)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return all_reduce_sum(gradient.contiguous()).chunk(world_size())[rank()]


def broadcast_object(value: Any, source: int = 0) -> Any:
    """A plain value of rank `source`, on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=source)
    return box[0]


def all_gather_object(value: Any) -> list[Any]:
    """Plain values of all ranks, in rank order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()


def any_true(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether any rank raised it; the same answer on all ranks, in one collective."""
    if world_size() == 1:
        return flags
    on_gpu = dist.get_backend() == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    votes = torch.tensor([int(flag) for flag in flags], device=device)
    return tuple(bool(vote) for vote in all_reduce_max(votes).tolist())
