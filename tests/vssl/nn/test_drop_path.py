"""Stochastic depth: what is dropped, how often, and that ranks and rows of a sample agree."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.gloo import run_ranks
from vssl.nn.drop_path import DropPath, draw_paths, set_drop_path
from vssl.randomness import stream


def test_a_sample_loses_a_branch_whole_and_the_mean_stays() -> None:
    path = DropPath().train()
    set_drop_path(path, 0.25)
    draw_paths(path, 20_000, stream("paths"))
    dropped = path(torch.ones(20_000, 2, 3))
    values = dropped.flatten(1)
    assert (values == values[:, :1]).all()
    assert sorted({*values[:, 0].tolist()}) == pytest.approx([0, 4 / 3])
    assert (values[:, 0] == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert values.mean().item() == pytest.approx(1, abs=0.02)


def test_rows_of_a_sample_go_together() -> None:
    path = DropPath().train()
    set_drop_path(path, 0.5)
    draw_paths(path, 8, stream("rows"))
    per_sample = path(torch.ones(8, 1))[:, 0]
    assert torch.equal(path(torch.ones(24, 1)).view(8, 3), per_sample[:, None].expand(8, 3))
    assert 0 < (per_sample == 0).sum() < 8


def test_shares_and_places_decide_on_rates() -> None:
    network = nn.Sequential(DropPath(0.2), DropPath(1.0, "shortcut"), DropPath(1.0))
    set_drop_path(network, 0.1)
    assert [path.rate for path in network] == pytest.approx([0.02, 0, 0.1])
    set_drop_path(network, 0.1, "shortcut")
    assert [path.rate for path in network] == pytest.approx([0, 0.1, 0])


def test_evaluation_and_a_rate_of_nothing_change_nothing() -> None:
    ones = torch.ones(3, 2)
    path = DropPath()
    assert path(ones) is ones
    set_drop_path(path, 0.9)
    assert path.eval()(ones) is ones
    with pytest.raises(RuntimeError, match="call draw_paths"):
        path.train()(ones)


def _dropped(samples: int) -> list[float]:
    path = DropPath().train()
    set_drop_path(path, 0.5)
    draw_paths(path, samples, stream("step", 3))
    values: Any = path(torch.ones(samples, 1))[:, 0].tolist()
    return list(values)


def test_ranks_draw_one_batch() -> None:
    whole = _dropped(6)
    assert [one for part in run_ranks(_dropped, 2, 3) for one in part] == whole
    assert len({*whole}) == 2
