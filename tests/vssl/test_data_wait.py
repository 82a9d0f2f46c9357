"""Every step of a training tells which share of its time it waited for data."""

from types import SimpleNamespace

import pytest

from vssl import loop


def test_the_share_of_a_step_that_was_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 3.0, 4.0, 10.0, 10.5, 20.0, 30.0, 30.0])  # asked, came, logged; twice; and the end
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    found = [perf(8) for _, perf in loop._timed(iter([{}, {}]))]
    assert found == [
        {"perf/data_wait_share": pytest.approx(3 / 4), "perf/clips_per_s": pytest.approx(8 / 4)},
        {"perf/data_wait_share": pytest.approx(0.5 / 10), "perf/clips_per_s": pytest.approx(8 / 10)},
    ]
