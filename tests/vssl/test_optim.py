"""LARC and learning rates against the original's numbers and closed forms."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.goldens import golden, golden_tensors
from vssl.optim import LARC, build_optimizer, learning_rate, set_learning_rate
from vssl.optim_config import CosineConfig, LARCConfig, MilestonesConfig, SGDConfig


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


@pytest.mark.parametrize("name", ["single", "warm"])
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
    columns = [(1e-3, arrays["step_pretrain"]), *zip((0.01, 0.1), arrays["step_eval"].T)]
    for base, expected in columns:
        found = [learning_rate(schedule, base, step=5 * e, epochs=12, steps_per_epoch=5) for e in range(len(expected))]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_point_14_the_backbone_learns_at_a_share_of_the_rate() -> None:
    """As the evaluation schedule of the golden file: 0.01 for the backbone where the head has 0.1."""
    backbone, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    both = [*backbone.parameters(), *head.parameters()]
    for larc in (None, LARCConfig()):
        optimizer = build_optimizer(SGDConfig(larc=larc), both, slow=backbone.parameters(), slow_by=10)
        set_learning_rate(optimizer, 0.1)
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert [rates[id(p)] for p in both] == pytest.approx([0.01, 0.01, 0.1, 0.1])


def test_cosine_starts_at_base_passes_the_middle_and_nears_final() -> None:
    def rate(step: int) -> float:
        return learning_rate(CosineConfig(final_lr=0.2), 1.0, step=step, epochs=10, steps_per_epoch=10)

    assert rate(0) == 1.0
    assert rate(50) == pytest.approx(0.6)
    assert 0.2 < rate(99) < 0.201
    assert all(a > b for a, b in zip(map(rate, range(99)), map(rate, range(1, 100))))
    assert rate(25) == pytest.approx(0.2 + 0.4 * (1 + math.sqrt(0.5)))
