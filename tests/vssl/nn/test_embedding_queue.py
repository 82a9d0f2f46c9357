"""Queues against a list that is kept by hand."""

import pytest
import torch

from tests.gloo import run_ranks
from vssl.nn.embedding_queue import EmbeddingQueue, gather_rows, local_length, slice_rows


def test_point_06_queue_length_holds_whole_batches() -> None:
    assert local_length(1920, 192, 4) == 480
    assert local_length(1920, 96, 4) == 480
    assert local_length(1000, 96, 4) == (1000 - 1000 % 96) // 4
    assert local_length(90, 96, 4) == 0


def test_point_06_queue_newest_first_and_full_after_length_over_batch() -> None:
    queue = EmbeddingQueue.empty(6, 3, torch.device("cpu"))
    batches = [torch.full((2, 3), float(n + 1)) + torch.arange(2)[:, None] / 10 for n in range(5)]
    for n, batch in enumerate(batches):
        assert queue.is_full() == (n >= 3)
        queue.push(batch.requires_grad_(True))
        kept = torch.cat([*reversed(batches[: n + 1]), torch.zeros(6, 3)])[:6]
        assert torch.equal(queue.rows, kept)
        assert not queue.rows.requires_grad


def test_point_06_queue_refuses_a_batch_that_does_not_divide_it() -> None:
    with pytest.raises(ValueError, match=r"6 rows .* batches of 4"):
        EmbeddingQueue.empty(6, 3, torch.device("cpu")).push(torch.ones(4, 3))


def _fill_gather_and_slice(batches: torch.Tensor) -> dict[str, torch.Tensor]:
    """Global batches (steps, B, D) into this rank's queue, and through the saved form."""
    ranks, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    local = batches.shape[1] // ranks
    queue = EmbeddingQueue.empty(len(batches) * local, batches.shape[2], batches.device)
    for batch in batches:
        queue.push(batch[rank * local : (rank + 1) * local])
    saved = gather_rows(queue.rows, local)
    return {"local": queue.rows, "saved": saved, "loaded": slice_rows(saved, batches.shape[1])}


def test_point_06_queue_saved_on_two_ranks_is_that_of_one() -> None:
    batches = torch.arange(3 * 4 * 2.0).view(3, 4, 2)
    ranks = run_ranks(_fill_gather_and_slice, 2, batches)
    single = batches.flip(0).reshape(-1, 2)
    for result in ranks:
        assert torch.equal(result["saved"], single)
        assert torch.equal(result["loaded"], result["local"])
    assert not torch.equal(ranks[0]["local"], ranks[1]["local"])
    assert torch.equal(slice_rows(single, 4), single)
