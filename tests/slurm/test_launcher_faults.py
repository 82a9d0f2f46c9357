"""The launcher killed at every write and every command of a submission to a real Slurm; then the same line again."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from launch.provenance import CHECKOUT
from launch.slurm.scheduler import Scheduler
from launch.store import Store
from tests.launch.deaths import Death, Died, lives
from tests.slurm.daemons import wait_until
from tests.slurm.lines import LATER, Line, cancel_all, lanes

RUN_EVERY = 25  # of so many moments, one lets its jobs run to the end


@pytest.fixture
def line(sandbox, code, tmp_path, monkeypatch):
    """`line(name)`: a new store below tmp_path, for two lanes of two probes."""
    monkeypatch.setenv("SLURM_CONF", sandbox.environment["SLURM_CONF"])
    monkeypatch.setattr("launch.slurm.submission.snapshot", lambda store: code)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a moment to die at all the same, and no wait for a disk
    plan = lanes(2, steps=1)
    return lambda name: Line(sandbox=sandbox, plan=plan, root=tmp_path / f"{name}")


def moments(line, patch):
    with patch.context() as inner:
        death = Death(inner, line.scheduler)
        assert line.type(profile=LATER) == 0
    return death.count


def test_no_moment_to_die_at_leaves_a_stage_twice_orphaned_or_held(line, sandbox, monkeypatch, capsys):
    next_life = lives(monkeypatch)
    next_life()
    calm = line("calm")
    count = moments(calm, monkeypatch)
    calm.check_queue()
    cancel_all(sandbox)
    assert count > 60, "the list of moments looks too short"
    for at in range(1, count + 1):
        one = line(at)
        next_life()
        with monkeypatch.context() as patch:
            Death(patch, one.scheduler, at)
            with pytest.raises(Died):
                one.type(profile=LATER)
        one.scheduler = Scheduler()
        next_life()
        assert one.type(profile=LATER) == 0, f"moment {at}"
        one.check_queue()
        if at % RUN_EVERY == 0:
            for job in one.queue():
                one.scheduler.start_now(job.job)
            one.wait()
            assert one.starts() == Counter([*one.plan.by_name]), one.logs()
            assert one.done() == set(one.plan.by_name)
        else:
            cancel_all(sandbox)
    with capsys.disabled():
        print(f" [{count} moments]", end="")


LAUNCHER = """
import sys
from pathlib import Path
from launch.slurm.scheduler import Scheduler
from tests.slurm.lines import LATER, Line, lanes

Scheduler.release = lambda self, ids: (print("before the release", flush=True), sys.stdin.read())
Line(sandbox=None, plan=lanes(2, steps=1), root=Path(sys.argv[1])).type(profile=LATER)
"""


def launcher(root: Path) -> subprocess.Popen[str]:
    """A launcher in a process of its own that stops before its release."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(root)],
        cwd=CHECKOUT,
        env=os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "before the release\n"
    return process


def test_a_launcher_that_is_really_killed(line, sandbox):
    one = line("killed")
    process = launcher(one.root)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert {entry.reason for entry in one.queue()} == {"JobHeldUser"}
    assert one.type(profile=LATER) == 0
    one.check_queue()
    assert sorted(Counter(entry.array for entry in one.queue()).values()) == [2, 2]


def test_a_second_launcher_waits_for_the_first(line, sandbox, capsys):
    """The first one is killed in the end, which the second one sees."""
    one, codes = line("waits"), []
    process = launcher(one.root)
    second = threading.Thread(target=lambda: codes.append(one.type(profile=LATER)))
    second.start()
    said: list[str] = []

    def told() -> bool:
        said.append(capsys.readouterr().out)
        return "another launcher submits" in "".join(said)

    wait_until(told, "the second launcher to say that it waits")
    assert not codes
    process.send_signal(signal.SIGKILL)
    process.communicate()
    second.join(60)
    assert codes == [0]
    assert f"process {process.pid} on" in "".join(said)
    one.check_queue()


def test_launchers_at_once_submit_each_stage_once(line, sandbox, capsys):
    one, codes = line("at once"), []

    def launch() -> None:
        other = Line(sandbox=sandbox, plan=one.plan, root=one.root)
        codes.append(other.type(profile=LATER))

    threads = [threading.Thread(target=launch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0, 0]
    one.check_queue()


def test_sweeps_that_share_stages_submit_them_once(sandbox, line, tmp_path):
    small, large = line("shared"), line("shared")
    large.plan = lanes(3, steps=1)
    codes = []
    threads = [threading.Thread(target=lambda one=one: codes.append(one.type(profile=LATER))) for one in (small, large)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0]
    large.check_queue()
    assert len(large.queue()) == 6
    assert len(list(Store(small.root).pipelines.iterdir())) == 2
