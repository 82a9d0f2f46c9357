"""Mean class accuracy: the original's way and the usual one (card of STS, section 13, point 11)."""

import pytest
import torch

from tests.goldens import golden_tensors
from vssl.evals.metrics import mean_class_accuracy, top_k


def test_point_11_golden() -> None:
    arrays = golden_tensors("metrics", "sts")
    cases = [key.replace("scores", "{}") for key in arrays if "scores" in key]
    assert cases
    for case in cases:
        scores, labels = arrays[case.format("scores")], arrays[case.format("labels")]
        found = mean_class_accuracy(scores, labels, legacy=True)
        assert found == pytest.approx(arrays[case.format("mca")].item(), abs=1e-12), case
        top = arrays.get(case.format("top1_5_"))
        if top is not None:
            assert [top_k(scores, labels, k) for k in (1, 5)] == pytest.approx(top.tolist(), abs=1e-12)


def test_point_11_a_class_that_nobody_has_counts_in_the_originals_alone() -> None:
    scores = torch.eye(3)[[0, 0, 2]]  # two rows of class 0, one of which is taken for class 2
    labels = torch.tensor([0, 0, 0])
    assert mean_class_accuracy(scores, labels) == pytest.approx(2 / 3)
    assert mean_class_accuracy(scores, labels, legacy=True) == pytest.approx(1 / 3)


def test_classes_count_alike_however_many_rows_they_have() -> None:
    scores = torch.eye(2)[[0] * 9 + [0]]
    assert mean_class_accuracy(scores, torch.tensor([0] * 9 + [1])) == 0.5
    with pytest.raises(ValueError, match="with N > 0"):
        mean_class_accuracy(scores, torch.zeros(3))
