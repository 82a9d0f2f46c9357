"""Precise statistics against the original's numbers and the plain means over batches."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.goldens import golden
from vssl.nn.batchnorm import GroupedBatchNorm3d, SyncBatchNorm3d
from vssl.nn.drop_path import DropPath, set_drop_path
from vssl.nn.precise_bn import set_precise_statistics


def network(norm: nn.Module, weight: Tensor) -> nn.Sequential:
    convolution = nn.Conv3d(*weight.shape[1::-1], 1, bias=False, dtype=weight.dtype)
    with torch.no_grad():
        convolution.weight.copy_(weight)
    return nn.Sequential(convolution, norm.to(weight.dtype))


def test_precise_statistics_golden() -> None:
    arrays = golden("precise_bn", "sts")
    weight, batches = torch.from_numpy(arrays["w"]), torch.from_numpy(arrays["batches"])
    norm = nn.BatchNorm3d(len(weight))
    assert norm.running_mean is not None
    norm.running_mean.fill_(9)
    count = set_precise_statistics(network(norm, weight).eval(), batches[: int(arrays["num_iters"])])
    assert count == int(arrays["num_iters"])
    for name in ("running_mean", "running_var"):
        np.testing.assert_allclose(norm.get_buffer(name), arrays[name], rtol=0, atol=1e-10)
    assert norm.momentum == float(arrays["momentum_after"])
    assert not norm.training


@pytest.mark.parametrize("layer", [nn.BatchNorm3d, partial(GroupedBatchNorm3d, group_size=2), SyncBatchNorm3d])
def test_every_layer_gets_plain_means_and_keeps_its_weights(layer) -> None:
    """Of groups, the first of each batch counts, as for running statistics."""
    batches = torch.randn(5, 4, 3, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    norm = layer(3)
    before = [parameter.clone() for parameter in norm.parameters()]
    norm.train()
    set_precise_statistics(norm, batches)
    seen = batches[:, :2] if isinstance(norm, GroupedBatchNorm3d) else batches
    variance, mean = torch.var_mean(seen, dim=(1, 3, 4, 5))
    torch.testing.assert_close(norm.running_mean, mean.mean(0))
    torch.testing.assert_close(norm.running_var, variance.mean(0))
    assert all(map(torch.equal, before, norm.parameters()))
    assert (norm.momentum, norm.training) == (0.1, True)


def test_no_path_is_dropped_while_statistics_are_taken() -> None:
    """Nor need any be drawn: a stage that goes on after its last step has drawn none."""
    path, norm = DropPath(), nn.BatchNorm3d(2)
    network = nn.Sequential(path, norm)
    set_drop_path(network, 0.9)
    clips = torch.randn(8, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    set_precise_statistics(network.train(), [clips])
    torch.testing.assert_close(norm.running_mean, clips.mean(dim=(0, 2, 3, 4)))
    assert path.training


def test_no_batches_change_nothing() -> None:
    norm = nn.BatchNorm3d(2).eval()
    norm.running_mean.fill_(5)
    assert set_precise_statistics(norm, []) == 0
    assert norm.running_mean.tolist() == [5, 5]


def test_what_breaks_leaves_the_momentum() -> None:
    norm = nn.BatchNorm3d(2)
    with pytest.raises(ValueError, match="5D"):
        set_precise_statistics(norm, [torch.zeros(3, 2)])
    assert norm.momentum == 0.1
