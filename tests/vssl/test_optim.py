"""LARC and learning rates against the original's numbers and closed forms."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.goldens import golden, golden_tensors
from vssl.config import ConfigError, build
from vssl.optim import LARC, build_optimizer, gradient_norm, set_learning_rate
from vssl.optim_config import (
    AdamConfig,
    CosineConfig,
    EpochCosineConfig,
    JoinedCosineConfig,
    LARCConfig,
    MilestonesConfig,
    OpenCosineConfig,
    SGDConfig,
    WarmEpochCosineConfig,
    refuse_endless_warmup,
)
from vssl.schedules import joined_cosine, learning_rate


def test_point_02_larc_golden() -> None:
    arrays = golden_tensors("larc")
    count = sum(key.endswith("_init") for key in arrays)
    parameters = [nn.Parameter(arrays[f"p{i}_init"].clone()) for i in range(count)]
    config = SGDConfig(
        base_lr=float(arrays["lrs"][0]),
        momentum=float(arrays["momentum"]),
        weight_decay=float(arrays["wd"]),
        larc=LARCConfig(trust=float(arrays["trust"]), eps=float(arrays["eps"])),
    )
    optimizer = build_optimizer(config, parameters)
    for t, lr in enumerate(arrays["lrs"]):
        set_learning_rate(optimizer, float(lr))
        for i, parameter in enumerate(parameters):
            gradient = arrays[f"g{i}_t{t}"]
            parameter.grad = None if gradient.isnan().any() else gradient.clone()
        optimizer.step()
        for i, parameter in enumerate(parameters):
            torch.testing.assert_close(parameter.detach(), arrays[f"p{i}_after{t}"], rtol=1e-5, atol=1e-5)


def larc(parameters: list[nn.Parameter]) -> LARC:
    return LARC(parameters, lr=0.5, momentum=0.9, weight_decay=0.1, trust=0.01, eps=0.0)


def test_larc_moves_a_tensor_in_proportion_to_its_size() -> None:
    p = nn.Parameter(torch.tensor([3.0, 4.0]))
    p.grad = torch.tensor([0.0, 100.0])
    larc([p]).step()
    rate = 0.01 * 5 / (100 + 0.1 * 5)
    expected = torch.tensor([3 - 0.5 * rate * 0.3, 4 - 0.5 * rate * 100.4])
    torch.testing.assert_close(p.detach(), expected)


def test_larc_takes_zero_tensors_and_zero_gradients_raw_and_skips_missing_ones() -> None:
    zero, still, frozen = (nn.Parameter(torch.full((2,), value)) for value in (0.0, 1.0, 2.0))
    zero.grad, still.grad = torch.ones(2), torch.zeros(2)
    larc([zero, still, frozen]).step()
    assert zero.tolist() == [-0.5, -0.5]
    assert still.tolist() == [1.0, 1.0]  # no weight decay either
    assert frozen.tolist() == [2.0, 2.0]


def test_larc_state_restores_bit_for_bit() -> None:
    gradients = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    calm = nn.Parameter(torch.ones(7))
    optimizer = larc([calm])
    for n, gradient in enumerate(gradients):
        if n == 3:
            saved, weights = copy.deepcopy(optimizer.state_dict()), calm.detach().clone()
            broken = nn.Parameter(weights)
            resumed = LARC([broken], lr=1.0, momentum=0.0, weight_decay=0.0, trust=1.0, eps=1.0)
            resumed.load_state_dict(saved)
        calm.grad = gradient.clone()
        optimizer.step()
        if n >= 3:
            broken.grad = gradient.clone()
            resumed.step()
    assert torch.equal(calm, broken)


def test_build_optimizer_leaves_out_what_cannot_be_trained() -> None:
    frozen = nn.Parameter(torch.ones(1), requires_grad=False)
    optimizer = build_optimizer(SGDConfig(), [frozen, nn.Parameter(torch.ones(1))])
    assert type(optimizer) is torch.optim.SGD
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]


@pytest.mark.parametrize("name", [key.removesuffix("_params") for key in golden("schedule") if "_params" in key])
def test_point_02_schedule_golden_cosine(name: str) -> None:
    arrays = golden("schedule")
    base, final, epochs, steps, warmup, start = arrays[f"{name}_params"].tolist()
    schedule = CosineConfig(final_lr=final, warmup_epochs=int(warmup), warmup_start_lr=start)
    found = [
        learning_rate(schedule, base, step=n, epochs=int(epochs), steps_per_epoch=int(steps))
        for n in range(int(epochs * steps))
    ]
    np.testing.assert_allclose(found, arrays[name], rtol=0, atol=1e-9)


def test_point_02_schedule_golden_milestones() -> None:
    arrays = golden("schedule")
    schedule = MilestonesConfig(milestones=tuple(arrays["step_milestones"].tolist()))
    for expected in (arrays["step_pretrain"], *arrays["step_eval"].T):
        base, epochs = expected[0], len(expected)
        found = [learning_rate(schedule, base, step=5 * e, epochs=epochs, steps_per_epoch=5) for e in range(epochs)]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_point_14_the_backbone_learns_at_a_share_of_the_rate() -> None:
    """As the evaluation schedule of the golden file: 0.01 for the backbone where the head has 0.1."""
    backbone, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    both = [*backbone.parameters(), *head.parameters()]
    for larc in (None, LARCConfig()):
        optimizer = build_optimizer(SGDConfig(larc=larc), both, lr_scales=dict.fromkeys(backbone.parameters(), 0.1))
        set_learning_rate(optimizer, 0.1)
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert [rates[id(p)] for p in both] == pytest.approx([0.01, 0.01, 0.1, 0.1])


@pytest.mark.parametrize(
    "name", [key.removesuffix("_args") for key in golden("lr_schedules", "carl") if key.endswith("_args")]
)
def test_carl_point_12_rates_golden(name: str) -> None:
    arrays = golden("lr_schedules", "carl")
    base, epochs, warmup, start, final = arrays[f"{name}_args"].tolist()
    schedule = {
        "cosine": OpenCosineConfig(),
        "cosinewarmup": OpenCosineConfig(warmup_epochs=int(warmup), warmup_start_lr=start, final_lr=final),
        "fixed": MilestonesConfig(milestones=()),
    }[name.partition("_")[0]]
    found = [
        learning_rate(schedule, base, step=7 * epoch + epoch % 7, epochs=int(epochs), steps_per_epoch=7)
        for epoch in range(int(epochs))
    ]
    np.testing.assert_allclose(found, arrays[name], rtol=1e-9, atol=1e-12)


def test_adam_decays_every_tensor() -> None:
    parameters = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))]
    optimizer = build_optimizer(AdamConfig(), parameters)
    assert type(optimizer) is torch.optim.Adam
    (group,) = optimizer.param_groups
    assert group["params"] == parameters
    assert (group["weight_decay"], group["betas"], group["lr"]) == (1e-5, (0.9, 0.999), 1e-4)


def test_cosine_starts_at_base_passes_the_middle_and_nears_final() -> None:
    def rate(step: int) -> float:
        return learning_rate(CosineConfig(final_lr=0.2), 1.0, step=step, epochs=10, steps_per_epoch=10)

    assert rate(0) == 1.0
    assert rate(50) == pytest.approx(0.6)
    assert 0.2 < rate(99) < 0.201
    assert all(a > b for a, b in zip(map(rate, range(99)), map(rate, range(1, 100))))
    assert rate(25) == pytest.approx(0.2 + 0.4 * (1 + math.sqrt(0.5)))


def lars(parameters: list[nn.Parameter], **changes: float) -> torch.optim.Optimizer:
    return build_optimizer(
        SGDConfig(
            larc=LARCConfig(), nesterov=True, decay_1d=False, **({"base_lr": 0.5, "weight_decay": 0.1} | changes)
        ),
        parameters,
    )


def test_lars_golden() -> None:
    arrays = golden("lars_sgd", "fgkvmem")
    meta = json.loads(str(arrays["meta"]))
    assert not meta["clip"]
    assert meta["bn_weight_decay"] == 0  # as other 1-D tensors, whose group has none either
    names = [key.removeprefix("init.") for key in arrays if key.startswith("init.")]
    parameters = {name: nn.Parameter(torch.from_numpy(arrays[f"init.{name}"]).clone()) for name in names}
    config = SGDConfig(
        momentum=meta["momentum"],
        weight_decay=meta["weight_decay"],
        nesterov=meta["nesterov"],
        decay_1d=False,
        larc=LARCConfig(trust=meta["trust"], eps=meta["eps"]),
    )
    optimizer = build_optimizer(config, parameters.values())
    for step, lr in enumerate(arrays["lrs"]):
        set_learning_rate(optimizer, float(lr))
        for name, parameter in parameters.items():
            parameter.grad = torch.from_numpy(arrays[f"step{step}.grad.{name}"]).clone()
        optimizer.step()
        for name, parameter in parameters.items():
            np.testing.assert_allclose(
                parameter.detach().numpy(), arrays[f"step{step}.param.{name}"], rtol=0, atol=1e-10, err_msg=name
            )


def test_lars_takes_1d_and_zero_tensors_as_plain_nesterov_without_decay() -> None:
    bias, zero, matrix = (
        nn.Parameter(torch.full(shape, value)) for shape, value in (((2,), 3.0), ((2, 2), 0.0), ((1, 2), 4.0))
    )
    optimizer = lars([bias, zero, matrix])
    for parameter in (bias, zero, matrix):
        parameter.grad = torch.full_like(parameter, 10.0)
    optimizer.step()
    plain_step = 0.5 * 1.9 * 10  # lr (1 + momentum) g
    assert bias.tolist() == [3 - plain_step] * 2
    assert zero.tolist() == [[-plain_step] * 2] * 2
    size, slope = 4 * math.sqrt(2), 10 * math.sqrt(2)
    rate = 0.001 * size / (slope + 0.1 * size + 1e-8)
    torch.testing.assert_close(matrix.detach(), torch.full((1, 2), 4 - 0.5 * 1.9 * rate * (10 + 0.1 * 4)))


def test_lars_state_restores_bit_for_bit() -> None:
    """Momentum of both groups, into an optimiser that was built anew."""
    generator = torch.Generator().manual_seed(0)
    calm = [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3))]
    optimizer = lars(calm)
    for n in range(6):
        if n == 3:
            broken = [nn.Parameter(p.detach().clone()) for p in calm]
            resumed = lars(broken)
            resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        gradients = [torch.randn(p.shape, generator=generator) for p in calm]
        for optimiser, parameters in [(optimizer, calm)] + ([(resumed, broken)] if n >= 3 else []):
            for parameter, gradient in zip(parameters, gradients):
                parameter.grad = gradient.clone()
            optimiser.step()
    assert all(map(torch.equal, calm, broken))


def test_without_larc_1d_tensors_can_be_spared_the_decay() -> None:
    """As STS's X3D has it."""
    matrix, bias = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.ones(1))
    for decay_1d, expected in ((True, 0.9), (False, 1.0)):
        with torch.no_grad():
            matrix.fill_(1), bias.fill_(1)
        optimizer = build_optimizer(SGDConfig(base_lr=1.0, weight_decay=0.1, decay_1d=decay_1d), [matrix, bias])
        matrix.grad, bias.grad = torch.zeros(1, 1), torch.zeros(1)
        optimizer.step()
        assert (matrix.item(), bias.item()) == pytest.approx((0.9, expected))


def test_joined_cosine_golden() -> None:
    arrays = golden("lr_schedule", "fgkvmem")
    cases = [key.removesuffix(".lr") for key in arrays if key.endswith(".lr")]
    assert cases
    for case in cases:
        base, epochs, warmup, start, end, after = arrays[f"{case}.base_max_warm_start_end_after"].tolist()
        schedule = JoinedCosineConfig(
            final_lr=end, warmup_epochs=warmup, warmup_start_lr=start, cosine_after_warmup=bool(after)
        )
        found = [joined_cosine(schedule, base, epoch=e, epochs=int(epochs)) for e in arrays[f"{case}.epoch"].tolist()]
        np.testing.assert_allclose(found, arrays[f"{case}.lr"], rtol=0, atol=1e-12, err_msg=case)


def test_joined_cosine_joins_where_the_warmup_ends() -> None:
    def rate(step: int, *, after: bool = False) -> float:
        schedule = JoinedCosineConfig(warmup_epochs=35, cosine_after_warmup=after)
        return learning_rate(schedule, 1.2, step=step, epochs=400, steps_per_epoch=1000)

    assert rate(0) == 0.001
    assert rate(35_000) == pytest.approx(1.2 * (math.cos(math.pi * 35 / 400) + 1) / 2, rel=1e-12)
    assert rate(34_999) == pytest.approx(rate(35_000), abs=1e-4)
    assert rate(17_500) == pytest.approx((0.001 + rate(35_000)) / 2)
    assert rate(35_000, after=True) == pytest.approx(1.2)
    assert rate(400_000) == pytest.approx(rate(400_000, after=True)) == pytest.approx(0)


def test_sts_point_12_fine_tuning_golden() -> None:
    arrays = golden("lr_finetune", "sts")
    cases = [key.removesuffix("_lr") for key in arrays if key.endswith("_lr")]
    assert cases
    for case in cases:
        base, epochs, steps = arrays[f"{case}_base_epochs_itersperepoch"].tolist()
        found = [
            learning_rate(EpochCosineConfig(), base, step=step, epochs=int(epochs), steps_per_epoch=int(steps))
            for step in range(len(arrays[f"{case}_lr"]))
        ]
        np.testing.assert_allclose(found, arrays[f"{case}_lr"], rtol=0, atol=1e-12, err_msg=case)
        assert found[0] == pytest.approx(0.1 * base)
        after = found[5 * int(steps) :]
        assert all(len({*after[e : e + int(steps)]}) == 1 for e in range(0, len(after), int(steps)))


def test_sts_point_12_images_golden() -> None:
    arrays = golden("lr_pretrain", "sts")
    cases = [key.removesuffix("_lr") for key in arrays if key.endswith("_lr")]
    assert cases
    for case in cases:
        base, epochs, warmup, start, end = arrays[f"{case}_base_epochs_warm_warmlr_minlr"].tolist()
        schedule = WarmEpochCosineConfig(final_lr=end, warmup_epochs=int(warmup), warmup_start_lr=start)
        for steps in (1, 3):  # any number of steps: the rate is an epoch's
            found = [
                learning_rate(schedule, base, step=epoch * steps + steps - 1, epochs=int(epochs), steps_per_epoch=steps)
                for epoch in range(len(arrays[f"{case}_lr"]))
            ]
            np.testing.assert_allclose(found, arrays[f"{case}_lr"], rtol=0, atol=1e-12, err_msg=case)


def test_a_warmup_longer_than_its_schedule_and_nesterov_without_momentum_are_refused() -> None:
    with pytest.raises(ValueError, match=r"warmup_epochs is 35 of a schedule of 35 epochs.*at most 34"):
        refuse_endless_warmup(JoinedCosineConfig(warmup_epochs=35), 35)
    refuse_endless_warmup(JoinedCosineConfig(warmup_epochs=34.5), 35)
    with pytest.raises(ConfigError, match="nesterov is true and momentum is 0"):
        build(SGDConfig, {"nesterov": True, "momentum": 0.0})


def test_the_length_of_all_gradients_together():
    weight, bias, frozen = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [weight, frozen]}, {"params": [bias]}], lr=0.1)
    assert gradient_norm(optimizer) == 0
    weight.grad, bias.grad = torch.tensor([1.0, -2.0]), torch.tensor([2.0])
    assert gradient_norm(optimizer) == pytest.approx(3.0)
