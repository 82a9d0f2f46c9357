"""Binary cross-entropy of soft targets against the original's numbers (card of STS, section 13, point 13)."""

import pytest
import torch

from tests.goldens import golden_tensors
from vssl.losses.binary_cross_entropy import binary_cross_entropy
from vssl.nn.mixup import Mix, soft_targets


def test_point_13_golden() -> None:
    arrays = golden_tensors("bce_mixup", "sts")
    logits, labels = arrays["logits"], arrays["labels"]
    classes = logits.shape[1]
    targets = soft_targets(labels, labels.flip(0), Mix(float(arrays["lam"])), num_classes=classes, smoothing=0.0)
    torch.testing.assert_close(targets, arrays["target"], atol=1e-6, rtol=0)

    def hard(smoothing: float) -> torch.Tensor:
        return soft_targets(labels, labels, Mix(1.0), num_classes=classes, smoothing=smoothing)

    found = {
        "bce_soft": binary_cross_entropy(logits, targets),
        "bce_thresh02": binary_cross_entropy(logits, targets > 0.2),
        "bce_hard_s0": binary_cross_entropy(logits, hard(0.0)),
        "bce_hard_s01": binary_cross_entropy(logits, hard(0.1)),
    }
    for name, loss in found.items():
        torch.testing.assert_close(loss, arrays[name], atol=1e-6, rtol=0, msg=name)


def test_it_is_the_mean_over_samples_and_classes() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    chances = logits.sigmoid()
    twin = [-(t * c.log() + (1 - t) * (1 - c).log()) for t, c in zip(targets.flatten(), chances.flatten(), strict=True)]
    torch.testing.assert_close(binary_cross_entropy(logits, targets), torch.stack(twin).mean())


def test_labels_that_are_no_targets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected both \(B, C\)"):
        binary_cross_entropy(torch.zeros(3, 4), torch.zeros(3))
