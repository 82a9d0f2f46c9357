"""STS's backbones and their blocks against the original's numbers (card, section 13, points 1 and 8)."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.goldens import golden, golden_tensors
from tests.sts_networks import CONFIGS, case_of, empty
from tests.sts_rule import clip, set_by_rule
from vssl.backbones.bottleneck import depthwise_block, temporal_block
from vssl.backbones.conv_unit import with_eps
from vssl.backbones.r2plus1d34 import FactoredConv3d, middle_channels
from vssl.backbones.slowfast import SlowFast50
from vssl.backbones.x3d import x3d_block
from vssl.nn.sts import set_sts


def maps(backbone: Any, clips: Tensor) -> tuple[Tensor, ...]:
    found: Any = backbone.paths(clips) if isinstance(backbone, SlowFast50) else (backbone(clips),)
    return tuple(found)


def original(name: str, hidden: bool) -> str:
    """The name in the file of fine-tuning of a parameter here."""
    last = "cls_head.fc2" if hidden else "cls_head.fc_cls"
    return name.replace("head.hidden", "cls_head.fc1").replace("head.linear", last)


@pytest.mark.parametrize("name", CONFIGS)
def test_point_08_golden_on_videos(name: str) -> None:
    arrays = golden("backbones_finetune", "sts")
    case = case_of(name, arrays)
    classes = arrays[f"{case}_plain_logits"].shape[-1]
    network = empty(name, classes, images=False)
    shapes = {original(key, name == "x3d_s"): "x".join(map(str, t.shape)) for key, t in network.state_dict().items()}
    assert shapes == dict(zip(arrays[f"{case}_keys"].tolist(), arrays[f"{case}_shapes"].tolist(), strict=True))
    parameters = [sum(p.numel() for p in one.parameters()) for one in (network, network.backbone)]
    assert parameters == arrays[f"{case}_n_params_total_backbone"].tolist()
    set_by_rule(network)
    clips = clip(tuple(arrays[f"{case}_input_shape"].tolist()))
    for sts in (True, False):
        set_sts(network, sts)
        with torch.no_grad():
            found = maps(network.backbone, clips)
            pooled = torch.cat([one.mean(dim=(2, 3, 4), keepdim=True) for one in reversed(found)], dim=1)
            logits = network.head(network.head.pool(pooled))
        prefix = f"{case}_{'sts' if sts else 'plain'}"
        for number, one in enumerate(found):
            assert list(one.shape) == arrays[f"{prefix}_feat{number}_shape"].tolist()
            means = one.mean(dim=(2, 3, 4))
            expected_means = arrays[f"{prefix}_feat{number}_pooled"].reshape(means.shape)
            np.testing.assert_allclose(means, expected_means, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(
                one[:, 0], arrays[f"{prefix}_feat{number}_ch0"].reshape(one[:, 0].shape), atol=1e-9
            )
            numbers = [one.mean(), one.std(), one.abs().max()]
            np.testing.assert_allclose(numbers, arrays[f"{prefix}_feat{number}_mean_std_absmax"], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(logits.squeeze(), arrays[f"{prefix}_logits"].squeeze(), rtol=1e-6, atol=1e-9)
    network.float()
    with torch.no_grad():
        np.testing.assert_allclose(
            network(clips.float()).squeeze(), arrays[f"{prefix}_logits"].squeeze(), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("name", CONFIGS)
def test_point_08_golden_on_images(name: str) -> None:
    arrays = golden("backbones_pretrain", "sts")
    case = case_of(name, arrays)
    classes = arrays[f"{case}_logits"].shape[-1]
    network = empty(name, classes, images=True)
    assert sum(p.numel() for p in network.parameters()) == arrays[f"{case}_n_params"]
    set_by_rule(network)
    images = clip(tuple(arrays["input_shape"].tolist()))[:, :, None]
    features = network.head.pool(network.backbone(images))
    if isinstance(network.backbone, SlowFast50):  # its images have the slow path first, and the rule follows columns
        fast = network.backbone.fast_path.layer4[-1].conv3.conv.out_channels
        features = torch.cat([features[:, fast:], features[:, :fast]], dim=1)
    logits = network.head(features)
    np.testing.assert_allclose(logits.detach().squeeze(), arrays[f"{case}_logits"].squeeze(), rtol=1e-6, atol=1e-9)


def blocks() -> dict[str, tuple[nn.Module, int]]:
    """The blocks of the golden file, built as its weights say."""
    arrays = golden_tensors("blocks", "sts")

    def of(case: str, key: str) -> Tensor:
        return arrays[f"{case}.{key}"]

    found: dict[str, tuple[nn.Module, int]] = {}
    stride = arrays["csn_x"].shape[-1] // arrays["csn_y_eval"].shape[-1]
    width, inputs = of("csn", "conv1.conv.weight").shape[:2]
    found["csn"] = depthwise_block(inputs, width, stride, with_eps(nn.BatchNorm3d, 1e-3), drop_share=1.0), stride
    stride = arrays["slowonly_x"].shape[-1] // arrays["slowonly_y_eval"].shape[-1]
    width, inputs, time = of("slowonly", "conv1.conv.weight").shape[:3]
    slow = temporal_block(inputs, width, stride, time, nn.BatchNorm3d, drop_share=1.0, drops_shortcut=True)
    found["slowonly"] = slow, stride
    middle, inputs = of("x3d", "conv1.conv.weight").shape[:2]
    outputs = of("x3d", "conv3.conv.weight").shape[0]
    stride = arrays["x3d_x"].shape[-1] // arrays["x3d_y_eval"].shape[-1]
    gated = "x3d.se_module.fc1.weight" in arrays
    found["x3d"] = x3d_block(inputs, middle, outputs, stride, nn.BatchNorm3d, gated=gated, drop_share=1.0), stride
    return found


def test_blocks_golden() -> None:
    arrays = golden_tensors("blocks", "sts")
    for case, (block, _) in blocks().items():
        state = {key.removeprefix(f"{case}."): t for key, t in arrays.items() if key.startswith(f"{case}.")}
        block = block.double()
        missing, unexpected = block.load_state_dict(state, strict=False)
        assert not unexpected
        assert all(key.endswith("num_batches_tracked") for key in missing)
        set_sts(block, True)
        x = arrays[f"{case}_x"].clone().requires_grad_()
        torch.testing.assert_close(block.eval()(x), arrays[f"{case}_y_eval"], atol=1e-9, rtol=0)
        output = block.train()(x)
        output.backward(arrays[f"{case}_g"])
        torch.testing.assert_close(output, arrays[f"{case}_y_train"], atol=1e-9, rtol=0)
        torch.testing.assert_close(x.grad, arrays[f"{case}_gx"], atol=1e-9, rtol=0)
        for name, parameter in block.named_parameters():
            torch.testing.assert_close(parameter.grad, arrays[f"{case}_grad.{name}"], atol=1e-9, rtol=0)
        for name, buffer in block.named_buffers():
            if "running" in name:
                torch.testing.assert_close(buffer, arrays[f"{case}_after.{name}"], atol=1e-9, rtol=0)


def test_point_01_factored_convolutions_golden() -> None:
    arrays = golden_tensors("r2plus1d_conv", "sts")
    for inputs, outputs, _, side, _, middle in arrays["mid_channels_table"].tolist():
        assert middle_channels(inputs, outputs, side) == middle
    cases = [key.removesuffix("_x") for key in arrays if key.endswith("_x")]
    assert cases
    for case in cases:
        of = {key.removeprefix(f"{case}_"): t for key, t in arrays.items() if key.startswith(f"{case}_")}
        outputs, _, time = of["conv_t_w"].shape[:3]
        inputs, side = of["conv_s_w"].shape[1], of["conv_s_w"].shape[-1]
        stride = of["x"].shape[-1] // of["y_plain"].shape[-1]
        norm = with_eps(nn.BatchNorm3d, float(of["bn_eps"]))
        layer = FactoredConv3d(inputs, outputs, (time, side), stride, norm).double().eval()
        state = {
            "conv_s.weight": of["conv_s_w"], "conv_t.weight": of["conv_t_w"], "bn_s.weight": of["bn_w"],
            "bn_s.bias": of["bn_b"], "bn_s.running_mean": of["bn_mean"], "bn_s.running_var": of["bn_var"],
        }  # fmt: skip
        layer.load_state_dict(state, strict=False)
        torch.testing.assert_close(layer(of["x"]), of["y_plain"], atol=1e-10, rtol=0)
        set_sts(layer, True)
        torch.testing.assert_close(layer(of["x"]), of["y_sts"], atol=1e-10, rtol=0)
