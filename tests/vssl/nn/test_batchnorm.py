"""Normalisation over groups and over ranks, against nn.BatchNorm3d on the same clips."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.gloo import run_ranks
from vssl.config import ConfigError
from vssl.nn.batchnorm import GroupedBatchNorm3d, SyncBatchNorm, SyncBatchNorm3d, norm_layer


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


COUNTED = torch.tensor([True, False, True, True, True, False, False, True])  # three of the first rank, two of the other


def by_hand(layer: SyncBatchNorm, x: Tensor, counted: Tensor) -> Tensor:
    """Channel by channel, and autograd's own way back."""
    channels = []
    for channel in range(x.shape[1]):
        values = x[:, channel]
        shown = torch.cat([row.flatten() for row, counts in zip(values, counted) if counts])
        deviation = ((shown - shown.mean()).square().mean() + layer.eps).sqrt()
        channels.append((values - shown.mean()) / deviation * layer.weight[channel] + layer.bias[channel])
    return torch.stack(channels, dim=1)


def _masked_part(x: Tensor, counted: Tensor) -> dict[str, Any]:
    """This rank's rows of a batch, each output weighed differently."""
    ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    rank = torch.distributed.get_rank() if ranks > 1 else 0
    weights = torch.sin(torch.arange(x.numel())).view_as(x).chunk(ranks)[rank]
    x = x.chunk(ranks)[rank].clone().requires_grad_(True)
    layer = weighted(SyncBatchNorm(5))
    output = layer(x, counted.chunk(ranks)[rank])
    (output * weights * (1 + output)).sum().backward()
    gradients = {"to_x": x.grad, "to_weight": layer.weight.grad, "to_bias": layer.bias.grad}
    return {"output": output.detach(), **gradients, **layer.state_dict()}


@pytest.mark.parametrize("shape", [(8, 5), (8, 5, 3, 2)], ids=["vectors", "maps"])
def test_rows_that_do_not_count_are_normalised_by_the_others(shape: tuple[int, ...]) -> None:
    x = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(2))
    found = _masked_part(x, COUNTED)
    layer, twin = weighted(SyncBatchNorm(5)), x.clone().requires_grad_(True)
    expected = by_hand(layer, twin, COUNTED)
    weights = torch.sin(torch.arange(x.numel())).view_as(x)
    (expected * weights * (1 + expected)).sum().backward()
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(found["output"], expected.detach(), **close)
    for name, gradient in (("to_x", twin.grad), ("to_weight", layer.weight.grad), ("to_bias", layer.bias.grad)):
        torch.testing.assert_close(found[name], gradient, **close)
    plain = nn.BatchNorm1d(5)
    plain(x[COUNTED].flatten(2) if x.ndim > 2 else x[COUNTED])
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(found[name], plain.state_dict()[name])
    changed = torch.where(COUNTED.view(-1, *[1] * (x.ndim - 1)), x, x + 100)
    again = _masked_part(changed, COUNTED)
    assert torch.equal(again["output"][COUNTED], found["output"][COUNTED])
    assert torch.equal(again["running_var"], found["running_var"])
    torch.testing.assert_close(_masked_part(x, torch.ones(8, dtype=torch.bool)), run(weighted(SyncBatchNorm(5)), x))


def test_ranks_with_different_numbers_of_rows_normalise_as_one_process_does() -> None:
    x = 3 + 2 * torch.randn(8, 5, generator=torch.Generator().manual_seed(2))
    for counted in (COUNTED, torch.arange(8) < 4):  # of the second, a rank has no rows at all
        calm = _masked_part(x, counted)
        ranks = run_ranks(_masked_part, 2, x, counted)
        for name in ("output", "to_x"):
            torch.testing.assert_close(torch.cat([r[name] for r in ranks]), calm[name], rtol=1e-4, atol=1e-5)
        for name in ("to_weight", "to_bias"):
            torch.testing.assert_close(ranks[0][name] + ranks[1][name], calm[name], rtol=1e-4, atol=1e-4)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            for result in ranks:
                torch.testing.assert_close(result[name], calm[name], rtol=1e-5, atol=1e-6)
