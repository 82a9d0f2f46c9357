"""TCC's and TCN's objectives against the original's numbers and slow twins."""

import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from tests.goldens import golden_tensors
from vssl.losses.cycle_consistency import Penalty, Similarity, cycle_consistency, cycle_logits, smoothed_identity
from vssl.losses.time_contrast import time_contrast

TCC = golden_tensors("tcc_loss", "carl")
TCC_CASES = [key for key in TCC if key.count("__") == 2]


@pytest.mark.parametrize("name", TCC_CASES)
def test_cycle_consistency_golden(name: str) -> None:
    penalty, similarity, times = name.split("__")
    embeddings = TCC["embs"].clone().requires_grad_()
    loss = cycle_consistency(
        embeddings,
        TCC["steps"],
        TCC["seq_lens"],
        penalty=penalty,
        similarity=similarity,
        normalised_times=times == "norm",
        legacy_classification=True,
    )
    loss.backward()
    torch.testing.assert_close(loss, TCC[name], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(embeddings.grad, TCC[f"{name}__grad"], rtol=1e-6, atol=1e-8)


def test_the_way_there_and_back_golden() -> None:
    one, other = TCC["embs"][:2]
    torch.testing.assert_close(
        cycle_logits(one[None], other[None], "l2", 0.1)[0], TCC["pair01_logits"], rtol=1e-6, atol=0
    )
    torch.testing.assert_close(smoothed_identity(len(one), 0.1), TCC["pair01_labels"], rtol=1e-6, atol=0)


def slow_cycle(embeddings: Tensor, times: Tensor, penalty: str) -> float:
    """By squared distances, frame by frame."""
    count, slots, size = embeddings.shape
    near, far = 1 - 0.1, 0.1 / (slots - 1)
    penalties = []
    for i in range(count):
        for j in range(count):
            for t in range(slots if i != j else 0):
                away = [-float((embeddings[i, t] - other).square().sum()) / size / 0.1 for other in embeddings[j]]
                weights = torch.tensor(away, dtype=torch.float64).softmax(0)
                nearest = sum(w * other for w, other in zip(weights, embeddings[j]))
                back = [-float((nearest - own).square().sum()) / size / 0.1 for own in embeddings[i]]
                shares = torch.tensor(back, dtype=torch.float64).softmax(0).tolist()
                wanted = [near if s == t else far for s in range(slots)]
                expected, found = (sum(w * float(times[i, s]) for s, w in enumerate(of)) for of in (wanted, shares))
                variance = sum(share * (float(times[i, s]) - found) ** 2 for s, share in enumerate(shares))
                error = abs(expected - found)
                penalties.append(
                    {
                        "regression_mse_var": error**2 / variance + 0.001 * math.log(variance),
                        "regression_mse": error**2,
                        "regression_huber": error - 0.5 if error > 1 else error**2 / 2,
                        "classification": sum(w * math.log(w / s) for w, s in zip(wanted, shares)) / slots,
                    }[penalty]
                )
    return sum(penalties) / len(penalties)


@pytest.mark.parametrize("penalty", get_args(Penalty))
@pytest.mark.parametrize("normalised", [True, False])
def test_cycle_consistency_equals_its_slow_twin(penalty: Any, normalised: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(3, 5, 4, dtype=torch.float64, generator=generator)
    lengths = torch.tensor([10, 20, 30])
    steps = torch.stack([torch.randperm(10, generator=generator)[:5].sort().values for _ in lengths])
    found = cycle_consistency(embeddings, steps, lengths, penalty=penalty, normalised_times=normalised)
    times = steps.double() / lengths[:, None] if normalised else steps.double()
    assert float(found) == pytest.approx(slow_cycle(embeddings, times, penalty), rel=1e-9)


def test_classification_is_a_divergence_unless_the_original_is_asked_for() -> None:
    """The original hands logits to a divergence that expects logarithms of probabilities, and so falls below 0."""
    steps, lengths = TCC["steps"], TCC["seq_lens"]
    for similarity in get_args(Similarity):
        found = cycle_consistency(TCC["embs"], steps, lengths, penalty="classification", similarity=similarity)
        assert float(found) >= 0
    assert any(float(TCC[name]) < 0 for name in TCC_CASES if name.startswith("classification"))


def test_time_contrast_golden() -> None:
    arrays = golden_tensors("tcn_and_cls_loss", "carl")
    embeddings = arrays["embs"].clone().requires_grad_()
    loss = time_contrast(embeddings, size_weight=float(arrays["reg_lambda"]))
    loss.backward()
    torch.testing.assert_close(loss, arrays["loss"], rtol=1e-6, atol=0)
    torch.testing.assert_close(embeddings.grad, arrays["grad"], rtol=1e-6, atol=1e-9)


def test_time_contrast_equals_its_slow_twin() -> None:
    embeddings = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    total = 0.0
    for video in embeddings:
        anchors, positives = video[::2], video[1::2]
        for n, anchor in enumerate(anchors):
            products = [float(anchor @ positive) for positive in positives]
            total += math.log(sum(map(math.exp, products))) - products[n]
    sizes = sum(float(frame @ frame) for frame in embeddings.flatten(0, 1)) / 6
    assert float(time_contrast(embeddings, size_weight=0.4)) == pytest.approx(total / 6 + 0.1 * sizes)


def test_sequences_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 sequences"):
        cycle_consistency(torch.zeros(1, 4, 3), torch.zeros(1, 4), torch.ones(1))
    with pytest.raises(ValueError, match="P pairs"):
        time_contrast(torch.zeros(1, 3, 2))
