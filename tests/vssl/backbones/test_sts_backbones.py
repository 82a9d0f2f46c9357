"""STS's six backbones: sizes and work, where STS stands, what learns, and what they refuse (card, section 13)."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.full_size import AMP
from tests.goldens import golden
from tests.sts_networks import CONFIGS, Classifier, case_of
from vssl.backbones.build import build_backbone
from vssl.backbones.sts_backbones_config import (
    CSN50Config,
    R2Plus1D34Config,
    SlowOnly50Config,
)
from vssl.backbones.x3d import gate_channels
from vssl.config import ConfigError, build
from vssl.nn.batchnorm import norm_layer
from vssl.nn.drop_path import DropPath, set_drop_path
from vssl.nn.heads import fine_tuning_head
from vssl.nn.initial import zero_residuals
from vssl.nn.sts import STSConv3d, set_sts
from vssl.randomness import seeded


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
