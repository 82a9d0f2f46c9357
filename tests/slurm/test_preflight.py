"""What a real Slurm says to stages before they are queued."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from launch.plan import Plan
from launch.planning.selection import select
from launch.slurm.profiles import Profile
from launch.store import Store
from launch.trials.preflight import preflight
from tests.launch.conftest import planned
from tests.slurm.lines import SMALL
from tests.slurm.sandbox import Sandbox


def test_limits_and_starts_are_asked_for_and_nothing_is_queued(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", sandbox.environment["SLURM_CONF"])
    small = replace(planned("small"), resources=SMALL)
    wide = replace(planned("wide", seed=1), resources=replace(SMALL, nodes=4))
    plan = Plan(sweep="probes", scale="smoke", stages=(small, wide), datasets={})
    assert preflight(plan, select(plan), Store(tmp_path / "root"), profile=Profile(name="here")) == 0
    text = capsys.readouterr().out
    assert re.search(r"1 x \(1 cores, 1 GB\), 10 min +ok +could start at \d\d:\d\d on vssl-n1, partition cpu", text)
    assert re.search(r"4 x \(1 cores, 1 GB\), 10 min +ok +could start at \d\d:\d\d on vssl-n\[1-4\]", text)
    assert sandbox.run("squeue", "--noheader").stdout == ""

    vast = replace(planned("vast", seed=2), resources=replace(SMALL, nodes=40))
    plan = Plan(sweep="probes", scale="smoke", stages=(vast,), datasets={})
    assert preflight(plan, select(plan), Store(tmp_path / "root"), profile=Profile(name="here")) == 2
    text = capsys.readouterr().out
    assert re.search(r"partitions +refused +vast asks for 40 such nodes, and partition cpu has 4", text)
    assert re.search(r"40 x \(1 cores, 1 GB\), 10 min +refused +\S.* \(for vast\)", text)
