"""The six backbones of STS against the original networks, whose weights follow a rule (card, section 13)."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.full_size import AMP
from tests.goldens import golden, golden_tensors
from tests.sts_rule import clip, set_by_rule
from vssl.backbones.bottleneck import depthwise_block, temporal_block
from vssl.backbones.build import build_backbone
from vssl.backbones.conv_unit import with_eps
from vssl.backbones.r2plus1d34 import FactoredConv3d, middle_channels
from vssl.backbones.slowfast import SlowFast50
from vssl.backbones.sts_backbones_config import (
    CSN50Config,
    R2Plus1D34Config,
    SlowFast50Config,
    SlowOnly50Config,
    X3DSConfig,
)
from vssl.backbones.x3d import gate_channels, x3d_block
from vssl.config import ConfigError, build
from vssl.nn.batchnorm import norm_layer
from vssl.nn.drop_path import DropPath, set_drop_path
from vssl.nn.heads import fine_tuning_head
from vssl.nn.initial import zero_residuals
from vssl.nn.sts import STSConv3d, set_sts
from vssl.randomness import seeded

CONFIGS: dict[str, Any] = {
    "csn50": CSN50Config(),
    "r2plus1d34": R2Plus1D34Config(),
    "slowfast50_4x16": SlowFast50Config(),
    "slowfast50_8x8": SlowFast50Config(name="slowfast50_8x8"),
    "slowonly50": SlowOnly50Config(),
    "x3d_s": X3DSConfig(),
}


def case_of(name: str, arrays: Any) -> str:
    """What a file's keys of this network begin with, such as ircsn50_32x2 or v3d_csn50_ir_224."""
    begins = [key.removesuffix("_keys") for key in arrays if key.endswith("_keys")]
    family, _, sampling = name.replace("csn50", "csn").replace("r2plus1d34", "r2plus1d").partition("_")
    (found,) = (case for case in begins if family in case and sampling in case)
    return str(found)


class Classifier(nn.Module):
    def __init__(self, name: str, classes: int, *, images: bool = False) -> None:
        super().__init__()
        self.backbone = build_backbone(CONFIGS[name])
        self.head = fine_tuning_head(self.backbone, classes, hidden_bias=images)

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.head(self.head.pool(self.backbone(clips)))
        return logits


def empty(name: str, classes: int, *, images: bool) -> Classifier:
    """A network in float64 whose weights nobody has drawn."""
    with torch.device("meta"):
        network = Classifier(name, classes, images=images)
    return network.double().eval().to_empty(device="cpu")


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


@pytest.mark.parametrize("name", CONFIGS)
def test_point_05_of_one_frame_the_middle_tap_alone_learns(name: str) -> None:
    with seeded(0):
        network = build_backbone(
            build(type(CONFIGS[name]), {"name": name, "width": 32 if "slow" in name else 8})
        ).train()
    network(torch.randn(2, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    temporal = [m.weight for m in network.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[0] > 1]
    for weight in temporal:
        assert weight.grad is not None
        middle = weight.shape[2] // 2
        assert weight.grad[:, :, middle].abs().sum() > 0
        outer = [tap for tap in range(weight.shape[2]) if tap != middle]
        assert (weight.grad[:, :, outer] == 0).all()
    arrays = golden("backbones_pretrain", "sts")
    case = case_of(name, arrays)
    counted = arrays.get(f"{case}_temporal_kernel_count")
    if counted is not None:  # the count leaves out the stem that the original has frozen
        assert len(temporal) - (name == "r2plus1d34") == counted
        assert arrays[f"{case}_offcenter_grad_sum"] == 0


COUNTS = {  # backbone, with the heads of 400, 174 and (images) 1000 classes; 10^9 multiplications of the clip
    "csn50": ((12_311_552, 13_131_152, 12_668_078, 14_360_552), 80.34, (32, 224), (2048, 32, 7, 7)),
    "r2plus1d34": ((63_554_081, 63_759_281, 63_643_343, 64_067_081), 87.64, (8, 224), (512, 8, 7, 7)),
    "slowfast50_4x16": ((33_557_288, 34_479_288, 33_958_358, 35_862_288), 27.64, (32, 224), (2304, 1, 1, 1)),
    "slowfast50_8x8": ((33_643_560, 34_565_560, 34_044_630, 35_948_560), 50.31, (32, 224), (2304, 1, 1, 1)),
    "slowonly50": ((31_634_496, 32_454_096, 31_991_022, 33_683_496), 41.74, (8, 224), (2048, 8, 7, 7)),
    "x3d_s": ((2_089_986, 3_794_322, 3_331_248, 5_025_770), 1.96, (13, 160), (432, 13, 5, 5)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_points_03_and_04_parameters_shapes_and_work(name: str) -> None:
    (alone, *with_head), work, (frames, side), features = COUNTS[name]
    with torch.device("meta"):
        network = Classifier(name, 400)
        heads = [network.head, fine_tuning_head(network.backbone, 174)]
        heads.append(fine_tuning_head(network.backbone, 1000, hidden_bias=True))
    assert sum(p.numel() for p in network.backbone.parameters()) == alone
    assert [alone + sum(p.numel() for p in head.parameters()) for head in heads] == with_head
    clips = torch.empty(1, 3, frames, side, side, device="meta")
    done = []
    for sts in (False, True):
        set_sts(network, sts)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            assert network.backbone.eval()(clips).shape == (1, *features)
        done.append(counter.get_total_flops() / 2)
    assert done[0] == done[1]
    assert done[0] / 1e9 == pytest.approx(work, abs=0.01)
    if name == "slowfast50_4x16":
        with torch.no_grad():
            slow, fast = network.backbone.paths(clips)
        assert (slow.shape, fast.shape) == ((1, 2048, 4, 7, 7), (1, 256, 32, 7, 7))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_full_size_network_takes_one_step(name: str) -> None:
    config = build(type(CONFIGS[name]), {"name": name, "sts": True})
    with seeded(0):
        network = build_backbone(config, norm_layer(None))
    clips = torch.randn(2, 3, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16, enabled=AMP == "bf16"):
        loss = network(clips).float().square().mean()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


REPLACED = {"csn50": 16, "x3d_s": 26, "slowonly50": 9, "slowfast50_4x16": 9 + 16, "r2plus1d34": 33}


@pytest.mark.parametrize("name", REPLACED)
def test_where_sts_stands(name: str) -> None:
    with torch.device("meta"):
        network = build_backbone(CONFIGS[name])
    assert sum(m.kernel_size[0] > 1 for m in network.modules() if isinstance(m, STSConv3d)) == REPLACED[name]
    assert all(not m.sts for m in network.modules() if isinstance(m, STSConv3d))


def test_point_03_switched_networks_load_each_others_weights() -> None:
    with torch.device("meta"):
        on = build_backbone(CSN50Config(sts=True, sts_aligned=True))
        off = build_backbone(CSN50Config())
    assert all(m.sts and m.aligned for m in on.modules() if isinstance(m, STSConv3d))
    on.load_state_dict(off.state_dict(), assign=True)
    off.load_state_dict(on.state_dict(), assign=True)


@pytest.mark.parametrize("name", CONFIGS)
def test_drop_path_rates_are_the_originals(name: str) -> None:
    arrays = golden("backbones_pretrain", "sts")
    case = case_of(name, arrays)
    with torch.device("meta"):
        network = build_backbone(CONFIGS[name])
    published = arrays[f"{case}_droppath_names"].tolist()
    set_drop_path(network, 0.05, "shortcut")
    shortcuts = {path: m.rate for path, m in network.named_modules() if isinstance(m, DropPath) and m.rate > 0}
    set_drop_path(network, 0.05)
    rates = {f"get_feature.{path}": m.rate for path, m in network.named_modules() if isinstance(m, DropPath)}
    assert max(rates.values()) > 0.04
    if not published:  # its public code takes the rate and never reads it
        assert not shortcuts
        return
    assert sorted(shortcuts.values()) == pytest.approx([0.05 * n / 15 for n in (3, 7, 13)])  # of those that change
    expected = dict(zip(published, arrays[f"{case}_droppath_probs"].tolist()))
    assert {path: rate for path, rate in rates.items() if rate > 0} == pytest.approx(expected)


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


def test_epsilons_and_gates_are_the_published_ones() -> None:
    def epsilons(name: str) -> dict[str, float]:
        with torch.device("meta"):
            network = build_backbone(CONFIGS[name], norm_layer(None))
        return {path: m.eps for path, m in network.named_modules() if isinstance(m, nn.BatchNorm3d)}

    assert {*epsilons("csn50").values()} == {1e-3}
    assert {*epsilons("slowonly50").values()} == {*epsilons("x3d_s").values()} == {1e-5}
    factored = epsilons("r2plus1d34")
    assert {eps for path, eps in factored.items() if path.endswith("bn_s")} == {1e-5}
    assert {eps for path, eps in factored.items() if not path.endswith("bn_s")} == {1e-3}
    assert [len(epsilons(name)) for name in CONFIGS] == [53, 72, 106, 106, 53, 84]
    assert [gate_channels(c) for c in (54, 108, 216, 432)] == [8, 8, 16, 32]


def test_a_frozen_stem_keeps_weights_and_statistics() -> None:
    with seeded(0):
        network: Any = build_backbone(R2Plus1D34Config(width=4))
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    network.train().freeze_stem()
    network(torch.randn(2, 3, 1, 32, 32)).sum().backward()
    after = network.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before if key.startswith("conv1."))
    assert not torch.equal(after["layer1.0.conv1.bn.running_mean"], before["layer1.0.conv1.bn.running_mean"])
    arrays = golden("backbones_pretrain", "sts")
    frozen = [f"get_feature.{name}" for name, parameter in network.named_parameters() if parameter.grad is None]
    assert sorted(frozen) == sorted(arrays[f"{case_of('r2plus1d34', arrays)}_frozen_after_train_call"].tolist())


def test_residuals_may_begin_at_nothing() -> None:
    with seeded(0):
        network: Any = build_backbone(SlowOnly50Config(width=4))
    zero_residuals(network)
    block = network.layer3[1].eval()
    x = torch.rand(1, 64, 2, 4, 4)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(("name", "width"), [("r2plus1d34", 6), ("slowfast50_4x16", 16), ("x3d_s", 12)])
def test_widths_that_cannot_be_divided_are_refused(name: str, width: int) -> None:
    with pytest.raises(ConfigError):
        build(type(CONFIGS[name]), {"name": name, "width": width})


@pytest.mark.parametrize("name", CONFIGS)
def test_aligned_windows_of_convolutions_that_are_plain_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"sts_aligned is true and sts is false.*set sts to true, or sts_aligned"):
        build(type(CONFIGS[name]), {"name": name, "sts_aligned": True})
