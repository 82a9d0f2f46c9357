"""A first-in first-out store of this rank's recent embeddings, that can be saved for any number of ranks."""

import torch
from torch import Tensor

from vssl.distributed import all_gather_cat, rank, world_size


def local_length(queue_len: int, global_batch_size: int, ranks: int) -> int:
    """Rows that each rank keeps: whole batches only, so (K - K mod the global batch) / ranks, as in ViCC's code."""
    return (queue_len - queue_len % global_batch_size) // ranks


class EmbeddingQueue:
    """The embeddings of one assigning view, newest first (the "moco" options of ViCC's public code).

    A plain object rather than a module with buffers, because each rank keeps other rows: data-parallel training
    overwrites buffers with those of rank 0.

    Attributes:
        rows: (L, D) float32 without gradient. Zeros at the start; rows [0, B) are the last batch, in its order.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    @classmethod
    def empty(cls, length: int, dim: int, device: torch.device) -> "EmbeddingQueue":
        return cls(torch.zeros(length, dim, device=device))

    def is_full(self) -> bool:
        """Whether the oldest row has been written."""
        return bool(self.rows[-1].any())

    def push(self, embeddings: Tensor) -> None:
        """Put (B, D) embeddings first; everything else moves back by B rows and the last B rows are forgotten.

        Raises:
            ValueError: B does not divide the length, so that a batch would be forgotten in part.
        """
        batch = len(embeddings)
        if len(self.rows) % batch:
            raise ValueError(
                f"a queue of {len(self.rows)} rows does not hold whole batches of {batch}; "
                "queue_len is a multiple of global_batch_size, and every batch has the same size"
            )
        self.rows = torch.cat([embeddings.detach().to(self.rows), self.rows[:-batch]])


def gather_rows(rows: Tensor, local_batch: int) -> Tensor:
    """Rows of all ranks as a single rank would have kept them: by age of their batch, then by place in that batch.

    Args:
        rows: (L, D) of this rank; all ranks call.
        local_batch: samples of a batch on each rank.

    Returns:
        (W * L, D), equal on all ranks.
    """
    length, dim = rows.shape
    everyone = all_gather_cat(rows).view(world_size(), length // local_batch, local_batch, dim)
    return everyone.transpose(0, 1).reshape(-1, dim)  # (age, rank, place, D) -> (K, D)


def slice_rows(rows: Tensor, global_batch_size: int) -> Tensor:
    """The rows of this rank, out of what `gather_rows` returned on any number of ranks.

    Args:
        rows: (K, D), K a multiple of the global batch.
        global_batch_size: samples of a batch over all ranks.

    Returns:
        (K / W, D).
    """
    total, dim = rows.shape
    by_age = rows.view(total // global_batch_size, world_size(), -1, dim)
    return by_age[:, rank()].reshape(-1, dim).clone()
