"""Projector and classifier head."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.goldens import golden_tensors
from vssl.backbones.backbone_config import BackboneConfig, TinyConfig
from vssl.backbones.build import build_backbone
from vssl.backbones.sts_backbones_config import X3DSConfig
from vssl.evals.metrics import top_k
from vssl.nn.heads import (
    ClassifierHead,
    HiddenClassifierHead,
    Projector,
    fine_tuning_head,
    linear_probe_head,
    plain_head,
)


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


def test_sts_heads_golden() -> None:
    arrays = golden_tensors("heads", "sts")

    def logits(head: ClassifierHead, features: torch.Tensor, **state: torch.Tensor) -> torch.Tensor:
        head = head.double().eval()
        head.load_state_dict({name.replace("_", "."): tensor.double() for name, tensor in state.items()})
        return head(head.pool(features))

    classes, features = arrays["i3d_w"].shape
    plain = plain_head(features, classes)
    found = logits(plain, arrays["i3d_x"], linear_weight=arrays["i3d_w"], linear_bias=arrays["i3d_b"])
    torch.testing.assert_close(found, arrays["i3d_y"], atol=1e-10, rtol=0)

    both = torch.cat([arrays[f"sf_{path}"].mean(dim=(2, 3, 4), keepdim=True) for path in ("fast", "slow")], dim=1)
    classes, features = arrays["sf_w"].shape
    joined = plain_head(features, classes)
    found = logits(joined, both, linear_weight=arrays["sf_w"], linear_bias=arrays["sf_b"])
    torch.testing.assert_close(found, arrays["sf_y"], atol=1e-10, rtol=0)

    hidden, features = arrays["x3d_fc1_w"].shape
    deep = HiddenClassifierHead(features, hidden, len(arrays["x3d_fc2_b"]), bias=False)
    state = {"hidden_weight": arrays["x3d_fc1_w"], "linear_weight": arrays["x3d_fc2_w"]}
    found = logits(deep, arrays["x3d_x"], **state, linear_bias=arrays["x3d_fc2_b"])
    torch.testing.assert_close(found, arrays["x3d_y"], atol=1e-10, rtol=0)

    scores, labels = arrays["loss_scores"], arrays["loss_labels"]
    torch.testing.assert_close(F.cross_entropy(scores, labels), arrays["loss_cls"], atol=1e-10, rtol=0)
    assert [top_k(scores, labels, k) for k in (1, 5)] == pytest.approx(
        [arrays["loss_top1"].item(), arrays["loss_top5"].item()]
    )


def test_a_hidden_layer_stands_where_a_backbone_asks_for_one() -> None:
    with torch.device("meta"):
        tiny, narrow = build_backbone(TinyConfig()), build_backbone(X3DSConfig(width=8))
    assert not isinstance(fine_tuning_head(tiny, 3), HiddenClassifierHead)
    head = fine_tuning_head(narrow, 3)
    assert [name for name, _ in head.named_parameters()] == ["linear.weight", "linear.bias", "hidden.weight"]
    assert "hidden.bias" in dict(fine_tuning_head(narrow, 3, hidden_bias=True).named_parameters())


@pytest.mark.parametrize("config", [TinyConfig(), X3DSConfig(width=8)])
def test_a_fine_tunings_classifier_starts_as_wide_as_asked(config: BackboneConfig) -> None:
    with torch.device("meta"):
        backbone = build_backbone(config)
    torch.manual_seed(0)
    for given, std in (({}, 0.01), ({"std": 0.02}, 0.02)):
        head = fine_tuning_head(backbone, 400, **given)
        assert head.linear.weight.std().item() == pytest.approx(std, rel=0.02)
        assert not head.linear.bias.any()
