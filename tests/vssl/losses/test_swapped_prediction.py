"""Sinkhorn and the swapped loss against the original, slow twins and closed forms."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gloo import run_ranks
from tests.goldens import golden, golden_tensors
from vssl.losses.swapped_prediction import entropy, sinkhorn, swapped_prediction

CASES = [key.removesuffix("_q") for key in golden("sinkhorn") if key.endswith("_q")]


def slow_sinkhorn(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """The paper's rounds, factor by factor, in float64."""
    matrix = np.exp(scores.astype(np.float64) / epsilon).T  # prototypes x samples
    matrix /= matrix.sum()
    prototypes, samples = matrix.shape
    for _ in range(iterations):
        for c in range(prototypes):
            matrix[c] /= matrix[c].sum() * prototypes
        for n in range(samples):
            matrix[:, n] /= matrix[:, n].sum() * samples
    return (matrix / matrix.sum(axis=0)).T


def unit_scores(samples: int, prototypes: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(samples, 16, generator=generator), dim=1)
    return z @ F.normalize(torch.randn(prototypes, 16, generator=generator), dim=1).T


@pytest.mark.parametrize("case", CASES)
def test_point_02_sinkhorn_golden(case: str) -> None:
    arrays = golden_tensors("sinkhorn")
    found = sinkhorn(arrays[f"{case}_scores"], float(arrays[f"{case}_eps"]), int(arrays[f"{case}_iters"]))
    torch.testing.assert_close(found, arrays[f"{case}_q"], rtol=1e-4, atol=1e-5)


def test_point_02_sinkhorn_golden_max_subtracted_and_overflowing() -> None:
    arrays = golden_tensors("sinkhorn")
    for key in (key for key in arrays if key.endswith("_q_maxsub")):
        case = key.removesuffix("_q_maxsub")
        shifted = arrays[f"{case}_scores"] - arrays[f"{case}_scores"].max()
        found = sinkhorn(shifted, float(arrays[f"{case}_eps"]), int(arrays[f"{case}_iters"]))
        torch.testing.assert_close(found, arrays[key], rtol=1e-4, atol=1e-5)
    for key in (key for key in arrays if key.endswith("_n_inf")):
        scores = arrays[key.replace("_n_inf", "_scores")]
        assert torch.isinf(torch.exp(scores / 0.05)).sum() == arrays[key]
        huge = sinkhorn(scores, 0.05, 3)
        assert torch.isfinite(huge).all()
        torch.testing.assert_close(huge.sum(1), torch.ones(len(huge)), rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(2, 12), st.integers(0, 5), st.sampled_from([0.05, 0.1, 1.0]), st.integers(0, 99))
def test_point_01_sinkhorn_equals_slow_twin(
    samples: int, prototypes: int, rounds: int, epsilon: float, seed: int
) -> None:
    scores = unit_scores(samples, prototypes, seed)
    found = sinkhorn(scores, epsilon, rounds).double().numpy()
    np.testing.assert_allclose(found, slow_sinkhorn(scores.numpy(), epsilon, rounds), rtol=1e-4, atol=1e-6)


def test_point_01_sinkhorn_rows_columns_and_shift() -> None:
    scores = unit_scores(40, 10, seed=1)
    torch.testing.assert_close(sinkhorn(scores, 0.05, 3).sum(1), torch.ones(40), rtol=0, atol=1e-5)
    torch.testing.assert_close(sinkhorn(scores, 0.05, 50).sum(0), torch.full((10,), 4.0), rtol=1e-3, atol=0)
    torch.testing.assert_close(sinkhorn(scores + 0.7, 0.05, 3), sinkhorn(scores, 0.05, 3), rtol=1e-4, atol=1e-6)
    assert sinkhorn(scores.half(), 0.05, 3).dtype == torch.float32
    assert not sinkhorn(scores.requires_grad_(True), 0.05, 3).requires_grad


def _sinkhorn_of_this_rank(parts: list[torch.Tensor], rounds: int) -> torch.Tensor:
    return sinkhorn(parts[torch.distributed.get_rank()], 0.05, rounds)


def test_point_01_sinkhorn_of_two_ranks_is_that_of_one() -> None:
    scores = unit_scores(14, 9, seed=2)
    together = torch.cat(run_ranks(_sinkhorn_of_this_rank, 2, list(scores.chunk(2)), 3))
    torch.testing.assert_close(together, sinkhorn(scores, 0.05, 3), rtol=0, atol=1e-5)


def test_swapped_prediction_equals_slow_twin() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = [torch.randn(5, 7, generator=generator, dtype=torch.float32) for _ in range(4)]
    assignments = [torch.rand(5, 7, generator=generator).softmax(1) for _ in range(2)]
    total = 0.0
    for assignment, a in zip(assignments, (1, 3)):
        for v in range(4):
            if v != a:
                for b in range(5):
                    p = np.exp(scores[v][b].double().numpy() / 0.2)
                    total -= float((assignment[b].double().numpy() * np.log(p / p.sum())).sum()) / 5 / 3 / 2
    found = swapped_prediction(scores, assignments, (1, 3), 0.2)
    assert float(found) == pytest.approx(total, rel=1e-5)


def test_swapped_prediction_of_uniform_predictions_is_ln_c() -> None:
    flat = [torch.zeros(6, 300, requires_grad=True) for _ in range(2)]
    assignments = [sinkhorn(unit_scores(6, 300, seed), 0.05, 3) for seed in range(2)]
    loss = swapped_prediction(flat, assignments, (0, 1), 0.1)
    assert loss.item() == pytest.approx(math.log(300), abs=1e-5)
    loss.backward()
    assert flat[0].grad is not None


def test_swapped_prediction_refuses_views_without_assignment() -> None:
    with pytest.raises(ValueError, match="2 views, 1 assignments"):
        swapped_prediction([torch.zeros(2, 3)] * 2, [torch.zeros(2, 3)], (0, 1), 0.1)


def test_entropy_closed_forms() -> None:
    rows = torch.tensor([[0.25] * 4, [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    torch.testing.assert_close(entropy(rows), torch.tensor([math.log(4), 0.0, math.log(2)]))
