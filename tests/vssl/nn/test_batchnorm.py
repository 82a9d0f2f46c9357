"""Normalisation over groups and over ranks, against nn.BatchNorm3d on the same clips."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.gloo import run_ranks
from vssl.config import ConfigError
from vssl.nn.batchnorm import GroupedBatchNorm3d, SyncBatchNorm3d, norm_layer


def clips(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 3 + 2 * torch.randn(count, 5, 2, 3, 3, generator=generator)


def weighted(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 1.5, 5))
        layer.bias.copy_(torch.linspace(-1, 1, 5))
    return layer


def test_groups_are_normalised_alone_and_the_first_one_feeds_the_running_statistics() -> None:
    x = clips(6)
    layer, twin = weighted(GroupedBatchNorm3d(5, group_size=2)), weighted(nn.BatchNorm3d(5))
    found = layer(x)
    first = twin(x[:2])
    after_first = {name: t.clone() for name, t in twin.state_dict().items()}
    expected = torch.cat([first, twin(x[2:4]), twin(x[4:])])
    torch.testing.assert_close(found, expected)
    assert layer.state_dict().keys() == after_first.keys()
    for name, tensor in layer.state_dict().items():
        torch.testing.assert_close(tensor, after_first[name])
    layer.eval()
    twin.load_state_dict(after_first)
    torch.testing.assert_close(layer(x[:3]), twin.eval()(x[:3]))


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="6 clips per rank does not hold whole groups of 4"):
        GroupedBatchNorm3d(5, group_size=4)(clips(6))
    assert isinstance(norm_layer(4)(5), GroupedBatchNorm3d)
    assert isinstance(norm_layer(None)(5), SyncBatchNorm3d)


def run(layer: nn.Module, x: Tensor) -> dict[str, Any]:
    """Output, gradients of a loss that weighs every output differently, and statistics."""
    x = x.clone().requires_grad_(True)
    output = layer(x)
    loss = (output * torch.sin(torch.arange(x.numel())).view_as(x) * (1 + output)).sum()
    loss.backward()
    gradients = {"to_x": x.grad, "to_weight": layer.weight.grad, "to_bias": layer.bias.grad}
    return {"output": output.detach(), **gradients, **layer.state_dict()}


def _synced_part(x: Tensor) -> dict[str, Any]:
    ranks, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    x = x.chunk(ranks)[rank].clone().requires_grad_(True)
    layer = weighted(SyncBatchNorm3d(5))
    output = layer(x)
    weights = torch.sin(torch.arange(x.numel() * ranks)).view(ranks, *x.shape)[rank]
    (output * weights * (1 + output)).sum().backward()
    gradients = {"to_x": x.grad, "to_weight": layer.weight.grad, "to_bias": layer.bias.grad}
    return {"output": output.detach(), **gradients, **layer.state_dict()}


def test_synced_normalisation_of_two_ranks_is_that_of_one_process() -> None:
    x = clips(4)
    calm = run(weighted(nn.BatchNorm3d(5)), x)
    torch.testing.assert_close(run(weighted(SyncBatchNorm3d(5)), x), calm)
    ranks = run_ranks(_synced_part, 2, x)
    for name in ("output", "to_x"):
        torch.testing.assert_close(torch.cat([r[name] for r in ranks]), calm[name], rtol=1e-4, atol=1e-5)
    for name in ("to_weight", "to_bias"):  # each rank has its part; data-parallel training adds them up
        torch.testing.assert_close(ranks[0][name] + ranks[1][name], calm[name], rtol=1e-4, atol=1e-4)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        for result in ranks:
            torch.testing.assert_close(result[name], calm[name], rtol=1e-5, atol=1e-6)
