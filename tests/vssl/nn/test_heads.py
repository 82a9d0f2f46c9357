"""Projector and classifier head."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.goldens import golden_tensors
from vssl.nn.heads import ClassifierHead, Projector, linear_probe_head


def load(head: ClassifierHead, arrays: dict[str, Tensor]) -> ClassifierHead:
    state = {"linear.weight": arrays["fc_w"], "linear.bias": arrays["fc_b"]}
    if head.state_dict().keys() > state.keys():
        names = {"weight": "bn_w", "bias": "bn_b", "running_mean": "bn_mean", "running_var": "bn_var"}
        state |= {f"norm.{name}": arrays[key].clone() for name, key in names.items()}
        state["norm.num_batches_tracked"] = torch.tensor(0)
    head.load_state_dict(state)
    return head


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.detach(), expected, rtol=1e-4, atol=1e-5)


def test_classifier_golden_linear_probe() -> None:
    arrays = golden_tensors("classifier")
    classes, features = arrays["fc_w"].shape
    head = load(linear_probe_head(features, classes), arrays).eval()
    pooled = head.pool(arrays["feat"])
    same(pooled, arrays["linear_eval_feat"])
    same(head(pooled), arrays["linear_eval_logits"])
    head.norm.train()
    same(head(pooled), arrays["linear_train_logits"])
    same(head.norm.running_mean, arrays["linear_bn_mean_after"])
    same(head.norm.running_var, arrays["linear_bn_var_after"])


def test_classifier_golden_fine_tune() -> None:
    arrays = golden_tensors("classifier")
    classes, features = arrays["fc_w"].shape
    head = load(ClassifierHead(features, classes, l2_normalise=False, batch_norm=False, dropout=0.9), arrays).eval()
    pooled = head.pool(arrays["feat"])
    same(pooled, arrays["ft_eval_feat"])
    same(head(pooled), arrays["ft_eval_logits"])


def test_linear_probe_head_starts_small_and_counts_right() -> None:
    torch.manual_seed(0)
    head = linear_probe_head(1024, 101)
    assert sum(p.numel() for p in head.parameters()) == 8_015_621 - 7_910_048
    assert head.linear.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not head.linear.bias.any()


def test_projector_is_a_perceptron_on_pooled_features_in_float32() -> None:
    projector = Projector(6, 4)
    first, second = projector.layers[0], projector.layers[2]
    features = torch.randn(3, 6, 2, 2, 2)
    hidden = F.relu(F.linear(features.mean((2, 3, 4)), first.weight.flatten(1), first.bias))
    expected = F.normalize(F.linear(hidden, second.weight.flatten(1), second.bias), dim=1)
    torch.testing.assert_close(projector(features), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert projector(features.bfloat16()).dtype == torch.float32
