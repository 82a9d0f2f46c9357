"""Prototype usage: counted as a loop would, over any number of ranks, and carried over a stop."""

import math

import pytest
import torch
from torch import Tensor, nn

from tests.gloo import run_ranks
from vssl.distributed import rank, world_size
from vssl.nn.prototypes import Prototypes
from vssl.prototype_usage import PrototypeUsage, effective_number

EMBEDDINGS = torch.nn.functional.normalize(torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), dim=1)


def watched(count: int = 5) -> tuple[nn.Module, Prototypes, PrototypeUsage]:
    """An encoder that gives back what it is given, prototypes, and what looks on."""
    torch.manual_seed(1)
    encoder, prototypes = nn.Identity(), Prototypes(4, count)
    prototypes.renormalise()
    return encoder, prototypes, PrototypeUsage(encoder, prototypes)


def nearest_counts(embeddings: Tensor, prototypes: Prototypes) -> list[int]:
    """The slow twin: one embedding after the other."""
    counts = [0] * len(prototypes.weight)
    for embedding in embeddings:
        similarities = [float(embedding @ row) for row in prototypes.weight.detach()]
        counts[similarities.index(max(similarities))] += 1
    return counts


@pytest.mark.parametrize(("counts", "expected"), [([4, 0, 0], 1.0), ([3, 3, 3], 3.0), ([0, 5, 5, 0], 2.0), ([0], 0.0)])
def test_the_effective_number_of_even_shares_is_how_many_there_are(counts: list[int], expected: float) -> None:
    assert effective_number(torch.tensor(counts)) == pytest.approx(expected)


def test_the_effective_number_is_the_exponential_of_the_entropy() -> None:
    shares = [0.5, 0.3, 0.2]
    entropy = -sum(share * math.log(share) for share in shares)
    assert effective_number(torch.tensor([5, 3, 2])) == pytest.approx(math.exp(entropy))


def test_an_epoch_is_counted_as_a_loop_counts_it() -> None:
    encoder, prototypes, usage = watched()
    encoder(EMBEDDINGS[:7])
    encoder(EMBEDDINGS[7:])
    encoder.eval()(EMBEDDINGS)  # an evaluation is none of training
    figures = usage.end_epoch()
    assert usage.last_epoch.tolist() == nearest_counts(EMBEDDINGS, prototypes)
    assert figures == {"effective_prototypes": effective_number(usage.last_epoch)}
    encoder.train()(EMBEDDINGS[:1])
    usage.end_epoch()
    assert usage.last_epoch.sum() == 1, "each epoch begins at nothing"


def test_a_stop_within_an_epoch_loses_nothing() -> None:
    encoder, prototypes, usage = watched()
    encoder(EMBEDDINGS[:7])
    state = usage.state_dict()
    encoder, _, again = watched()
    again.load_state_dict(state)
    encoder(EMBEDDINGS[7:])
    again.end_epoch()
    assert again.last_epoch.tolist() == nearest_counts(EMBEDDINGS, prototypes)


def test_half_precision_embeddings_are_scored_in_full() -> None:
    encoder, prototypes, usage = watched()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoder(EMBEDDINGS)
    usage.end_epoch()
    assert usage.last_epoch.tolist() == nearest_counts(EMBEDDINGS, prototypes)


def _counted_by_this_rank() -> list[int]:
    encoder, _, usage = watched()
    mine = EMBEDDINGS[rank() :: world_size()]
    encoder(mine[:2])
    usage.load_state_dict(usage.state_dict())
    encoder(mine[2:])
    usage.end_epoch()
    counts: list[int] = usage.last_epoch.tolist()
    return counts


def test_ranks_count_together_before_and_after_a_resume() -> None:
    expected = nearest_counts(EMBEDDINGS, watched()[1])
    assert run_ranks(_counted_by_this_rank, 2) == [expected, expected]
