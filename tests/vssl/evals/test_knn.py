"""The vote of nearest neighbours, and FGKVMem's retrieval, against the original's numbers and slow twins."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.goldens import golden, golden_tensors
from vssl.evals.features import unit
from vssl.evals.knn import knn_scores
from vssl.evals.metrics import recall_at, top_k
from vssl.evals.protocols import dissimilarity, plain_cosine_similarity


def test_knn_golden() -> None:
    arrays = golden_tensors("knn", "fgkvmem")
    expected = arrays["class_scores"]
    k, temperature = arrays["k_T"].tolist()
    found = knn_scores(
        arrays["query"],
        arrays["bank"],
        arrays["train_labels"],
        num_classes=expected.shape[1],
        k=int(k),
        temperature=temperature,
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    for name, depth in (("top1_err", 1), ("top5_err", 5)):
        assert 100 * (1 - top_k(found, arrays["query_labels"], depth)) == pytest.approx(arrays[name].item(), abs=1e-4)


@given(seed=st.integers(0, 1000), k=st.integers(1, 9), classes=st.integers(3, 400))
def test_knn_equals_its_slow_twin_for_any_number_of_classes(seed: int, k: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries, bank = torch.randn(3, 4, generator=generator), torch.randn(7, 4, generator=generator)
    labels = torch.randint(classes, (7,), generator=generator)
    found = knn_scores(queries, bank, labels, num_classes=classes, k=k, temperature=0.3)
    assert found.shape == (3, classes)
    for row, query in zip(found, queries):
        near = sorted(
            (-torch.cosine_similarity(query, one, dim=0).item(), label.item()) for one, label in zip(bank, labels)
        )
        slow = [0.0] * classes
        for cosine, label in near[:k]:
            slow[label] += math.exp(-cosine / 0.3)
        assert row.tolist() == pytest.approx(slow, rel=1e-4, abs=1e-6)


def test_a_bank_with_labels_of_more_classes_is_refused() -> None:
    """The original counts 101 classes whatever the dataset, and fails in the middle of a training on Kinetics."""
    with pytest.raises(ValueError, match=r"from 0 to 399; expected 0 to 100"):
        knn_scores(torch.ones(1, 2), torch.ones(2, 2), torch.tensor([0, 399]), num_classes=101)
    with pytest.raises(ValueError, match="expected \\(Q, D\\)"):
        knn_scores(torch.ones(1, 2), torch.ones(2, 3), torch.tensor([0, 1]), num_classes=2)


def test_retrieval_golden() -> None:
    arrays = golden_tensors("retrieval", "fgkvmem")
    gallery, views = arrays["train_feat"], arrays["test_multi_feat"]  # (G, D), (Q, V, D)
    for name, queries in (("single", arrays["test_feat"]), ("multi", views.mean(dim=1))):
        similarity = plain_cosine_similarity(queries, gallery)
        torch.testing.assert_close(similarity, arrays[f"sim_{name}"], rtol=0, atol=1e-5)
        expected = {f"recall_at_{int(k)}": value for k, value in arrays[f"recall_{name}_k_value"].tolist()}
        ks = [int(k) for k, _ in arrays[f"recall_{name}_k_value"].tolist()]
        found = recall_at(similarity, arrays["test_label"], arrays["train_label"], ks)
        assert found == pytest.approx(expected, abs=5.1e-5)
        assert sorted(found.values()) == list(found.values())
    between = dissimilarity(unit(views.mean(dim=1)).mean(dim=0)).item()
    within = dissimilarity(unit(views.flatten(0, 1)).view_as(views).mean(dim=1)).mean().item()
    assert between == pytest.approx(golden("retrieval", "fgkvmem")["inter_dissim"].item(), abs=1e-5)
    assert within == pytest.approx(golden("retrieval", "fgkvmem")["intra_dissim"].item(), abs=1e-5)


def test_dissimilarity_equals_its_slow_twin() -> None:
    vectors = unit(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)))
    pairs = [1 - float(a @ b) for a in vectors for b in vectors]
    assert dissimilarity(vectors.mean(dim=0)).item() == pytest.approx(np.mean(pairs), abs=1e-6)


def test_a_gallery_that_is_the_queries_has_recall_one() -> None:
    features, labels = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9)
    assert recall_at(plain_cosine_similarity(features, features), labels, labels, [1]) == {"recall_at_1": 1.0}
