"""LAMB against the original's numbers (card of STS, section 13, points 5 and 13) and closed forms."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.goldens import golden_tensors
from vssl.lamb import LAMB
from vssl.optim import build_optimizer, clip_of
from vssl.optim_config import LAMBConfig

SETTINGS = {"lr": 5e-3, "weight_decay": 0.02}  # of the golden file, as its README has them


def stepped(optimizer: LAMB, parameters: list[nn.Parameter], *gradients: list[torch.Tensor]) -> None:
    for of_step in gradients:
        for parameter, gradient in zip(parameters, of_step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()


def test_point_13_lamb_golden() -> None:
    arrays = golden_tensors("lamb", "sts")
    count = sum(key.endswith("_init") for key in arrays)
    parameters = [nn.Parameter(arrays[f"p{i}_init"].clone()) for i in range(count)]
    config = LAMBConfig(base_lr=SETTINGS["lr"], weight_decay=SETTINGS["weight_decay"])
    optimizer, clip = build_optimizer(config, parameters), clip_of(config)
    steps = 1 + max(int(key.partition("_")[0].removeprefix("step")) for key in arrays if key.startswith("step"))
    for step in range(steps):
        for number, parameter in enumerate(parameters):
            parameter.grad = arrays[f"step{step}_g{number}"].clone()
        clip(optimizer)
        optimizer.step()
        for number, parameter in enumerate(parameters):
            torch.testing.assert_close(parameter.data, arrays[f"step{step}_p{number}"], atol=1e-10, rtol=0)


def test_a_step_is_as_long_as_the_tensor_is_large() -> None:
    generator = torch.Generator().manual_seed(0)
    small, gradient = torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator)
    parameters = [nn.Parameter(small.clone()), nn.Parameter(100 * small)]
    before = [parameter.detach().clone() for parameter in parameters]
    stepped(LAMB(parameters, lr=0.1, weight_decay=1e-9), parameters, [gradient, gradient])
    for parameter, old in zip(parameters, before):
        torch.testing.assert_close((parameter - old).norm(), 0.1 * old.norm(), rtol=1e-4, atol=0)


def test_without_decay_it_is_adam() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, generator=generator)
    gradients = [[torch.randn(5, generator=generator)] for _ in range(3)]
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    stepped(LAMB([ours], lr=0.01), [ours], *gradients)
    adam = torch.optim.Adam([theirs], lr=0.01, eps=1e-6)
    for (gradient,) in gradients:
        theirs.grad = gradient.clone()
        adam.step()
    torch.testing.assert_close(ours.data, theirs.data)


def test_zero_tensors_move_and_missing_gradients_do_not() -> None:
    zero, spared = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = LAMB([zero, spared], lr=0.1, weight_decay=0.02)
    zero.grad = torch.ones(2, 2)
    optimizer.step()
    torch.testing.assert_close(zero.data, torch.full((2, 2), -0.1))
    assert torch.equal(spared.data, torch.ones(2, 2))


def test_groups_spare_biases_and_norms() -> None:
    layer = nn.Linear(3, 2)
    groups = build_optimizer(LAMBConfig(), [*layer.parameters(), *nn.BatchNorm3d(2).parameters()]).param_groups
    assert [(group["weight_decay"], [p.ndim for p in group["params"]]) for group in groups] == [
        (0.02, [2]),
        (0.0, [1, 1, 1]),
    ]


def test_state_restores_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = [[torch.randn(4, 3, generator=generator)] for _ in range(4)]
    whole = nn.Parameter(torch.randn(4, 3, generator=generator))
    halves = nn.Parameter(whole.detach().clone())
    stepped(LAMB([whole], **SETTINGS), [whole], *gradients)
    first = LAMB([halves], **SETTINGS)
    stepped(first, [halves], *gradients[:2])
    second = LAMB([halves], lr=1.0)
    second.load_state_dict(first.state_dict())
    stepped(second, [halves], *gradients[2:])
    assert torch.equal(whole, halves)


@pytest.mark.parametrize("closure", [None, lambda: 3.0])
def test_a_closure_gives_the_loss(closure: Callable[[], float] | None) -> None:
    assert LAMB([nn.Parameter(torch.zeros(1))], lr=0.1).step(closure) == (closure and closure())


def test_point_05_taps_without_gradient_change_by_the_decay_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = nn.Parameter(torch.randn(4, 3, 3, 1, 1, dtype=torch.float64, generator=generator))
    optimizer = LAMB([kernel], **SETTINGS)
    for _ in range(3):
        before = kernel.detach().clone()
        kernel.grad = torch.zeros_like(kernel)
        kernel.grad[:, :, 1] = torch.randn(4, 3, 1, 1, dtype=torch.float64, generator=generator)
        optimizer.step()
        shrunk = (kernel / before)[:, :, [0, 2]]
        assert (shrunk < 1).all()
        torch.testing.assert_close(shrunk, shrunk.mean().expand_as(shrunk))
        assert not torch.allclose(kernel[:, :, 1], before[:, :, 1] * shrunk.mean())
