"""Classes of frames, against the original's numbers and a slow twin."""

import math

import pytest
import torch

from tests.goldens import golden_tensors
from vssl.losses.frame_cross_entropy import frame_cross_entropy


def test_loss_and_accuracy_golden() -> None:
    arrays = golden_tensors("tcn_and_cls_loss", "carl")
    loss, accuracy = frame_cross_entropy(arrays["cls_logits"], arrays["cls_labels"], arrays["cls_mask"] > 0)
    torch.testing.assert_close(loss, arrays["cls_loss"], rtol=1e-6, atol=0)
    assert float(accuracy) == pytest.approx(float(arrays["cls_acc"]), abs=1e-6)


def test_it_equals_its_slow_twin() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 7, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.randint(-1, 4, (3, 7), generator=generator)
    mask = torch.rand(3, 7, generator=generator) < 0.7
    losses, hits = [], []
    for scores, label, shown in zip(logits.flatten(0, 1).tolist(), labels.flatten().tolist(), mask.flatten().tolist()):
        if shown and label >= 0:
            losses.append(math.log(sum(map(math.exp, scores))) - scores[label])
            hits.append(scores.index(max(scores)) == label)
    loss, accuracy = frame_cross_entropy(logits, labels, mask)
    assert loss.item() == pytest.approx(sum(losses) / len(losses))
    assert accuracy.item() == pytest.approx(sum(hits) / len(hits))
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(dim=-1) > 0, mask & (labels >= 0))


def test_nothing_to_count_is_no_loss_and_wrong_shapes_are_refused() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    loss, accuracy = frame_cross_entropy(logits, torch.full((2, 3), -1), torch.ones(2, 3, dtype=torch.bool))
    loss.backward()
    assert (loss.item(), accuracy.item()) == (0, 0)
    assert logits.grad is not None
    assert not logits.grad.any()
    with pytest.raises(ValueError, match=r"\(2, 3, 4\), \(2,\)"):
        frame_cross_entropy(logits, torch.zeros(2), torch.ones(2, 3, dtype=torch.bool))
