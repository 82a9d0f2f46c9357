"""The launcher killed at every write and command of a submission, on the small Slurm; then the same line again."""

import json
import os
from collections import Counter

import pytest

from launch.batches import open_batches, queued_batches, read_batch
from launch.executors.slurm import execute
from launch.slurm.profiles import Profile
from launch.store import Store
from tests.launch.conftest import planned
from tests.launch.deaths import Death, Died, lives
from tests.launch.fake_slurm import FakeSlurm
from tests.launch.slurm_records import finish
from vssl.artifacts import read_json


class World:
    """A store, a Slurm, and a count of how often each stage was started."""

    def __init__(self, folder, plan, at_once=1):
        self.plan = plan
        self.at_once = at_once
        self.store = Store(folder, visibility_s=0)
        self.now = 1_000_000.0
        self.started = Counter()
        self.slurm = FakeSlurm(lambda: self.now, self._start, lambda job: None)

    def line(self, force=()):
        names, profile = [stage.name for stage in self.plan], Profile(name="p", sbatch_at_once=self.at_once)
        return execute(self.plan, names, self.store, profile=profile, force=force, scheduler=self.slurm)

    def work(self):
        while running := [job for job in self.slurm.jobs.values() if job.state == "RUNNING"]:
            for job in running:
                finish(self.store, self.plan, self._name(job))
                self.slurm.finish(job, 0)
            self.now += 2
            self.slurm.tick()

    def check(self):
        """Each stage that is left is queued once, in a batch that is known; nothing is held; each record is whole."""
        queue = self.slurm.queue()
        batches = queued_batches(self.store, queue)
        stages = Counter(batches[one.name].stage(one.index) for one in queue)
        left = {stage.folder for stage in self.plan} - {
            stage.folder for stage in self.plan if stage.name in self.store.reusable_stages(self.plan)
        }
        assert stages == Counter(left)
        assert not [job for job in self.slurm.jobs.values() if job.held and not job.is_over]
        assert all(batch.released and not batch.void and not batch.ended for batch in batches.values())
        assert {batch.name for batch in open_batches(self.store)} == set(batches)
        for path in self.store.root.rglob("*.json"):
            if not path.name.startswith("."):
                json.loads(path.read_text())

    def _start(self, job):
        self.started[self._name(job)] += 1

    @staticmethod
    def _name(job):
        return read_json(job.batch / "elements.json")["elements"][str(job.index)]["name"]


@pytest.fixture
def plan(make_plan):
    first, other = planned("first", seed=1), planned("other", seed=2)
    return make_plan(first, other, planned("second", [first, other], seed=3), planned("third", [first], seed=4))


@pytest.fixture
def world(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a moment to die at all the same, and no wait for a disk
    monkeypatch.setattr("launch.slurm.submission.snapshot", lambda store: tmp_path / "code")
    return lambda name, at_once=1: World(tmp_path / f"{name}", plan, at_once)


def died(*words):
    raise Died


def dies(world, at, patch, force=()):
    with patch.context() as inner:
        Death(inner, world.slurm, at)
        with pytest.raises(Died):
            world.line(force)


def moments(world, patch, force=()):
    with patch.context() as inner:
        death = Death(inner, world.slurm)
        assert world.line(force) == 0
    return death.count


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_submission_survives_the_death_of_its_launcher_at_any_moment(world, monkeypatch, at_once):
    next_life = lives(monkeypatch)
    next_life()
    count = moments(world("calm", at_once), monkeypatch)
    assert count > 100, "the list of moments looks too short"
    for at in range(1, count + 1):
        one = world(at, at_once)
        next_life()
        dies(one, at, monkeypatch)
        next_life()
        assert one.line() == 0, f"moment {at}"
        one.check()
        writes = one.slurm.writes
        assert one.line() == 0
        assert one.slurm.writes == writes, "a third line finds nothing to do"
        one.work()
        assert set(one.started.values()) == {1}, f"moment {at}: {one.started}"
        assert len(one.started) == 4


def test_the_recovery_survives_the_same(world, monkeypatch):
    """The first launcher dies before the release, the second one at every moment of its own."""
    next_life = lives(monkeypatch)

    def left_behind(name):
        one = world(name)
        next_life()
        with monkeypatch.context() as patch:
            for name in ("release", "cancel"):
                patch.setattr(one.slurm, name, died)
            with pytest.raises(Died):
                one.line()
        assert one.slurm.queue()
        next_life()
        return one

    count = moments(left_behind("calm"), monkeypatch)
    for at in range(1, count + 1):
        one = left_behind(at)
        dies(one, at, monkeypatch)
        next_life()
        assert one.line() == 0, f"moment {at}"
        one.check()
        one.work()
        assert set(one.started.values()) == {1}, f"moment {at}: {one.started}"


def test_a_forced_stage_survives_the_same(world, monkeypatch):
    next_life = lives(monkeypatch)

    def finished(name):
        one = world(name)
        next_life()
        for stage in one.plan:
            finish(one.store, one.plan, stage.name)
        return one

    count = moments(finished("calm"), monkeypatch, {"first"})
    for at in range(1, count + 1):
        one = finished(at)
        dies(one, at, monkeypatch, {"first"})
        next_life()
        assert one.line() == 0, f"moment {at}"
        one.check()
        one.work()
        assert max(one.started.values(), default=1) == 1
        aside = list(one.store.root.glob("stages/*~1"))
        assert len(aside) <= 1
        assert set(one.started) == ({"first", "second", "third"} if aside else set()), f"moment {at}"


def test_a_launcher_that_dies_without_an_answer_leaves_a_job_that_is_found_later(world, monkeypatch):
    """sbatch outlives its launcher, and its job appears after the next line has given the batch up."""
    next_life = lives(monkeypatch)
    one = world("late")
    next_life()
    with monkeypatch.context() as patch:
        patch.setattr(one.slurm, "submit", died)
        with pytest.raises(Died):
            one.line()
    (late,) = one.store.batches.iterdir()
    next_life()
    assert one.line() == 0
    orphan = one.slurm.submit(late / "script.sh", late)
    assert read_batch(late).void
    next_life()
    assert one.line() == 0
    assert orphan not in {entry.array for entry in one.slurm.queue()}
    one.check()
