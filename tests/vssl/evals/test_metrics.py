"""Metrics against slow twins and closed forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vssl.evals.metrics import chance_recall_at_1, chance_top1, ranked, recall_at, top_k


def slow_recall(similarity, query_labels, gallery_labels, k):
    hits = 0
    for row, label in zip(similarity.tolist(), query_labels.tolist()):
        nearest = sorted(range(len(row)), key=lambda column: (-row[column], column))[:k]
        hits += any(gallery_labels[column].item() == label for column in nearest)
    return hits / len(query_labels)


@given(seed=st.integers(0, 10_000), queries=st.integers(1, 9), gallery=st.integers(1, 12), k=st.integers(1, 14))
def test_recall_equals_its_slow_twin(seed, queries, gallery, k):
    generator = torch.Generator().manual_seed(seed)
    # few distinct values, so that ties are common
    similarity = torch.randint(0, 4, (queries, gallery), generator=generator).float()
    query_labels = torch.randint(0, 3, (queries,), generator=generator)
    gallery_labels = torch.randint(0, 3, (gallery,), generator=generator)
    found = recall_at(similarity, query_labels, gallery_labels, [k])
    assert found[f"recall_at_{k}"] == pytest.approx(slow_recall(similarity, query_labels, gallery_labels, k))


def test_recall_of_more_rows_than_are_ranked_at_a_time():
    labels = torch.arange(2500) % 7
    assert recall_at(torch.eye(7)[labels], labels, torch.arange(7), [1]) == {"recall_at_1": 1.0}


def test_recall_grows_with_k_and_reaches_one_over_the_whole_gallery():
    generator = torch.Generator().manual_seed(0)
    found = recall_at(
        torch.randn(20, 30, generator=generator), torch.arange(20) % 5, torch.arange(30) % 5, [1, 5, 10, 30, 99]
    )
    values = list(found.values())
    assert values == sorted(values)
    assert values[-1] == 1.0


def test_recall_refuses_shapes_that_do_not_belong_together():
    with pytest.raises(ValueError, match="2 queries and 3 gallery"):
        recall_at(torch.zeros(3, 2), torch.zeros(2), torch.zeros(3), [1])
    with pytest.raises(ValueError, match="filled"):
        recall_at(torch.zeros(0, 2), torch.zeros(0), torch.zeros(2), [1])


@given(seed=st.integers(0, 10_000), k=st.integers(1, 6))
def test_top_k_equals_its_slow_twin(seed, k):
    generator = torch.Generator().manual_seed(seed)
    scores, labels = torch.randn(8, 4, generator=generator), torch.randint(0, 4, (8,), generator=generator)
    slow = sum(
        label in sorted(range(4), key=lambda c: -row[c])[:k] for row, label in zip(scores.tolist(), labels.tolist())
    )
    assert top_k(scores, labels, k) == pytest.approx(slow / 8)


def test_top_k_refuses_no_rows():
    with pytest.raises(ValueError, match="N > 0"):
        top_k(torch.zeros(0, 3), torch.zeros(0), 1)


def test_chance_is_the_share_of_equal_labels():
    assert chance_recall_at_1(torch.tensor([0, 1]), torch.tensor([0, 0, 1, 2])) == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert chance_top1(torch.tensor([0, 1, 1, 2])) == 0.5


def test_equal_similarities_keep_the_gallery_order():
    assert ranked(torch.zeros(1, 5), 3).tolist() == [[0, 1, 2]]
