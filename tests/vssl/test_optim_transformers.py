"""How transformers are optimised, against VideoTransformer-pytorch's numbers (card, section 11, points 11 and 12)."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.goldens import golden, golden_tensors
from tests.vtransformers import small
from vssl.backbones.mvit import MViTB
from vssl.backbones.vtransformer_names import own_mvit_name, own_names
from vssl.config import ConfigError, build
from vssl.methods import Position
from vssl.methods.supervised import Supervised
from vssl.nn.drop_path import DropPath
from vssl.optim import (
    build_optimizer,
    clip_gradients,
    clip_of,
    gradient_norm,
    layer_rates,
    set_learning_rate,
    set_weight_decay,
    tokens_and_positions,
)
from vssl.optim_config import (
    AdamConfig,
    AdamWConfig,
    EpochEndCosineConfig,
    LAMBConfig,
    SGDConfig,
    peak_rate,
)
from vssl.schedules import epoch_end_cosine, learning_rate, weight_decay_of
from vssl.stages.finetune_config import FinetuneConfig

ARRAYS = golden("08_schedules", "vtransformer")
CASES = json.loads(str(ARRAYS["cases"]))


@pytest.mark.parametrize("number", range(len(CASES)))
def test_point_11_schedules_golden(number: int) -> None:
    case = CASES[number]
    final = case["min_lr"] if case["objective"] == "supervised" else 0.0
    schedule = EpochEndCosineConfig(final_lr=final, warmup_epochs=case["warmup"])
    epochs, steps = case["epochs"], 3
    found = [
        learning_rate(schedule, case["base_lr"], step=steps * e + 1, epochs=epochs, steps_per_epoch=steps)
        for e in range(epochs)
    ]
    np.testing.assert_allclose(found, ARRAYS[f"case{number}"], rtol=0, atol=1e-12)
    if case["warmup"]:
        assert found[0] == pytest.approx(case["base_lr"] / case["warmup"])
    assert found[-1] == pytest.approx(final, abs=1e-18)
    assert found[0] == epoch_end_cosine(schedule, case["base_lr"], epoch=0, epochs=epochs)


def test_weight_decay_golden() -> None:
    for number, case in enumerate(json.loads(str(ARRAYS["wd_cases"]))):
        config = AdamWConfig(weight_decay=case["wd"], weight_decay_end=case["wd_end"])
        decay_at = weight_decay_of(config, case["epochs"], 1)
        assert decay_at is not None
        found = [decay_at(epoch) for epoch in range(case["epochs"])]
        np.testing.assert_allclose(found, ARRAYS[f"wd{number}"], rtol=0, atol=1e-12)


def test_without_an_end_weight_decay_stays() -> None:
    assert weight_decay_of(AdamWConfig(), 10, 3) is None
    assert weight_decay_of(SGDConfig(), 10, 3) is None
    rising = weight_decay_of(AdamWConfig(weight_decay=0.0, weight_decay_end=0.2), 10, 3)
    assert rising is not None
    assert [rising(step) for step in (0, 2, 15)] == [0.0, 0.0, pytest.approx(0.1)]


def test_clipping_golden() -> None:
    arrays = golden_tensors("08_schedules", "vtransformer")
    count = sum(key.startswith("grad") for key in arrays)
    for each in (True, False):
        parameters = [nn.Parameter(torch.zeros_like(arrays[f"grad{n}"])) for n in range(count)]
        for number, parameter in enumerate(parameters):
            parameter.grad = arrays[f"grad{number}"].clone()
        clip_gradients(torch.optim.SGD(parameters), float(arrays["clip"]), each=each)
        if each:
            for number, parameter in enumerate(parameters):
                torch.testing.assert_close(parameter.grad, arrays[f"clipped{number}"], rtol=0, atol=1e-12)
        else:
            scale = float(arrays["clip"] / arrays["total_norm_before"])
            torch.testing.assert_close(parameters[0].grad, arrays["grad0"] * min(1.0, scale), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("by", "length"), [("all", 1.0), ("tensor", math.sqrt(2))])
def test_long_gradients_are_shortened_and_short_ones_stay(by: str, length: float) -> None:
    two = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    config = AdamConfig(clip_norm=1.0, clip_by=by)
    optimizer, clip = build_optimizer(config, two), clip_of(config)
    for given, expected in ([3.0, 4.0], length), ([0.3, 0.4], math.hypot(0.5, 0.5)):
        for parameter in two:
            parameter.grad = torch.tensor(given)
        assert clip(optimizer).item() == pytest.approx(math.hypot(*given, *given))
        assert torch.cat([p.grad for p in two if p.grad is not None]).norm().item() == pytest.approx(expected, rel=1e-5)
    assert clip_of(SGDConfig()) is gradient_norm


def groups(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, tuple[float, float]]:
    """Name of a parameter -> (its factor of the rate, its weight decay)."""
    of = {id(p): (g["lr_scale"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    return {name: of[id(p)] for name, p in network.named_parameters()}


META = json.loads(str(golden("09_param_groups", "vtransformer")["meta"]))


def test_point_12_groups_of_timesformer_golden() -> None:
    network = Supervised(small("timesformer", "divided_space_time"), 3, dropout=0.0, seed=0)
    config = AdamWConfig(weight_decay=META["weight_decay"])
    optimizer = build_optimizer(config, network.parameters(), tables=tokens_and_positions(network))
    found = groups(optimizer, network)
    for group in json.loads(str(golden("09_param_groups", "vtransformer")["timesformer"])):
        names = [name for name in group["names"] if name.startswith("model.")]
        own = own_names([name.removeprefix("model.") for name in names] + ["x.attentions.1.x"])
        decays = group["weight_decay"] == "default"
        for name in names:
            expected = META["weight_decay"] if decays else 0.0
            assert found[f"backbone.{own[name.removeprefix('model.')]}"] == (1.0, expected), name
        assert found[f"head.linear.{'weight' if decays else 'bias'}"] == (1.0, META["weight_decay"] if decays else 0.0)


def test_point_12_groups_and_layers_of_mvit_golden() -> None:
    backbone = MViTB(4, 4, 32)
    network = Supervised(backbone, 3, dropout=0.0, seed=0)
    rates = layer_rates(backbone, backbone.layer_of, META["layer_decay"])
    config = AdamWConfig(weight_decay=META["weight_decay"])
    optimizer = build_optimizer(config, network.parameters(), lr_scales=rates, tables=tokens_and_positions(network))
    found = groups(optimizer, network)
    compared = set()
    for group in json.loads(str(golden("09_param_groups", "vtransformer")["mvit_layer_decay"])):
        for name in group["names"]:
            if name == "model.mask_token":  # of pretraining alone
                continue
            if name.startswith("cls_head."):
                own = f"head.linear.{name.rpartition('.')[2]}"
            else:
                own = f"backbone.{own_mvit_name(name.removeprefix('model.'))[0]}"
            assert found[own] == (pytest.approx(group["lr_scale"], rel=1e-12), group["weight_decay"]), name
            compared.add(own)
    assert compared == set(found)
    scales = ARRAYS["layer_decay_scales"]
    decay = scales[-2]  # of file 08, which may be another than this file's
    rates = layer_rates(backbone, backbone.layer_of, decay)
    np.testing.assert_allclose(sorted(set(rates.values())), scales, rtol=1e-12)


def test_decay_is_given_to_every_group_that_decays() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    rates = dict.fromkeys(network[0].parameters(), 0.5)
    optimizer = build_optimizer(AdamWConfig(weight_decay=0.1), network.parameters(), lr_scales=rates)
    set_weight_decay(optimizer, 0.3)
    set_learning_rate(optimizer, 2.0)
    of = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert [of[id(p)] for p in network.parameters()] == [(1.0, 0.3), (1.0, 0.0), (2.0, 0.3), (2.0, 0.0)]


def test_shares_of_the_drop_path_golden_and_samples_that_lose_branches() -> None:
    depth = len(ARRAYS["drop_path_rates"])
    network = Supervised(
        small("timesformer", "divided_space_time", depth=depth).float(), 3, dropout=0.0, seed=0, drop_path=0.1
    )
    rates = [block.space.drop_path.rate for block in network.backbone.blocks]
    np.testing.assert_allclose(rates, ARRAYS["drop_path_rates"], rtol=0, atol=1e-12)
    assert len([m for m in network.backbone.modules() if isinstance(m, DropPath)]) == 3 * depth
    batch = {"streams": {"rgb": torch.randn(4, 1, 3, 4, 16, 16)}, "labels": torch.tensor([0, 1, 2, 0])}

    def loss(step: int) -> float:
        position = Position(step=step, epoch=0, steps_per_epoch=9, epochs=1)
        return network.train()(batch, position)[0].item()

    assert loss(1) == loss(1)
    assert len({loss(step) for step in range(4)}) > 1
    once = network.eval().classify(batch["streams"]["rgb"][:, 0])
    assert torch.equal(once, network.classify(batch["streams"]["rgb"][:, 0]))


def test_the_rate_of_a_batch_of_256_is_scaled_and_a_rate_is_not() -> None:
    for config in (SGDConfig, AdamConfig, AdamWConfig, LAMBConfig):
        assert peak_rate(config(base_lr=8e-4, lr_of_batch=256), 128) == pytest.approx(4e-4)
        assert peak_rate(config(base_lr=0.005), 64) == 0.005


def tuning(**changes: Any) -> FinetuneConfig:
    data = {"dataset": {"name": "x"}, "num_frames": 8, "crop_size": 32}
    return build(FinetuneConfig, {"data": data, "backbone": {"name": "timesformer"}, "test_view": {}} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_decay": 0.75, "backbone": {"name": "s3d"}}, "layer_decay is 0.75 and backbone.name is s3d"),
        ({"drop_path": 0.1, "backbone": {"name": "mvit_b", "num_frames": 8, "image_size": 32}}, "drop_path is 0.1 and"),
        ({"backbone": {"name": "vivit"}}, "backbone.num_frames is 16 and data.num_frames is 8"),
        ({"backbone": {"name": "mvit_b", "num_frames": 8}}, "backbone.image_size is 224 and views have 32 pixels"),
        ({"optim": {"name": "adamax"}}, "accepted: adam, adamw, lamb, sgd"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tuning(**changes)


def test_an_optimiser_without_a_name_is_sgd() -> None:
    assert tuning(optim={"base_lr": 0.3}).optim == SGDConfig(base_lr=0.3)
