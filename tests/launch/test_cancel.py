"""Cancelling: what goes, what stays because another live pipeline uses it, and how what runs here is asked to stop."""

import json
import shutil
import subprocess
import sys

import pytest

from launch.running.elements import create_batch, element
from launch.slurm.scheduler import SchedulerSilentError
from launch.status import status_now
from launch.verbs.cancel import cancel
from launch.verbs.targets import Target
from tests.launch.slurm_records import Queue, age, attempt, finish, queued, send
from vssl.artifacts import read_json, write_json
from vssl.config import ConfigError


@pytest.fixture
def plan(stage, make_plan):
    first = stage("first", seed=1)
    second = stage("second", [first], seed=2)
    return make_plan(first, second, stage("third", [second], seed=3), stage("apart", seed=4))


@pytest.fixture
def target(plan, store):
    folder = store.save_plan(plan)

    def target(selector="", of=plan):
        return Target(folder=store.pipeline(of) if of is not plan else folder, plan=of, store=store, selector=selector)

    return target


def test_one_scancel_names_everything(plan, store, target):
    batch = send(store, plan, ["first", "second", "third"])
    other = send(store, plan, ["apart"], job_id="200")
    queue = Queue(queued("100_1", "RUNNING", batch), queued("100_2", batch=batch), queued("200_0", batch=other))
    finish(store, plan, "first")
    done = cancel(target(), queue)
    assert sorted(queue.cancelled) == ["100", "200"], "whole arrays, since nothing else of them is left"
    assert done.jobs == {"second": "100_1", "third": "100_2", "apart": "200_0"}
    assert done.lines()[0] == "cancelled second (job 100_1)"
    assert set(read_json(batch / "cancelled.json")) == {"1", "2"}
    statuses, _ = status_now(plan, store, target().folder.name, Queue())
    assert [one.state for one in statuses] == ["done", "cancelled", "cancelled", "cancelled"]


def test_a_stage_takes_along_what_hangs_below_it(plan, store, target):
    batch = send(store, plan, ["first", "second", "third", "apart"])
    queue = Queue(*(queued(f"100_{index}", batch=batch) for index in range(4)))
    assert list(cancel(target("second"), queue).jobs) == ["second", "third"]
    assert queue.cancelled == ["100_1", "100_2"]
    assert not (target().folder / "cancelled.json").exists(), "the pipeline lives on"


def test_nothing_in_the_queue(plan, store, target):
    done = cancel(target(), Queue(queued("7_0", folder="/another/store/batches/x")))
    assert done.lines() == [f"nothing of {target().folder.name} is queued or runs"]


def test_jobs_whose_records_were_removed_are_not_passed_over(plan, store, target):
    batch = send(store, plan, ["first"])
    place = str(store.batches.resolve() / batch.name)
    queue = Queue(queued("100_0", batch=batch, folder=place), queued("99_4", folder=f"{place[:-1]}x"))
    chosen = target()
    shutil.rmtree(store.batches)
    with pytest.raises(ConfigError, match=r"whose records are gone .*scancel 99 100`"):
        cancel(chosen, queue)
    assert queue.cancelled == []


def test_a_silent_controller_cancels_nothing(plan, store, target):
    batch = send(store, plan, ["first"])
    with pytest.raises(SchedulerSilentError):
        cancel(target(), Queue(silent="no answer"))
    assert not (batch / "cancelled.json").exists()
    assert not (target().folder / "cancelled.json").exists()


class TestSharedStages:
    @pytest.fixture
    def wider(self, plan, store, stage, make_plan):
        """Another pipeline, which has first and second in common with the plan."""
        own = stage("own", [plan["second"]], seed=9)
        return make_plan(plan["first"], plan["second"], own, sweep="wider")

    def queue(self, plan, store):
        batch = send(store, plan, ["first", "second", "third"])
        age(batch, 60.0)
        return Queue(*(queued(f"100_{index}", batch=batch) for index in range(3)))

    def test_a_pipeline_that_was_submitted_onto_them_keeps_them(self, plan, wider, store, target):
        queue = self.queue(plan, store)
        other = store.save_plan(wider)  # after the batch: it counts on what is queued
        done = cancel(target(), queue)
        assert done.kept == {"first": other.name, "second": other.name}
        assert queue.cancelled == ["100_2"]
        assert f"kept first: {other.name} uses it" in done.lines()

    def test_an_abandoned_one_does_not(self, plan, wider, store, target):
        age(store.save_plan(wider), 3600.0)
        done = cancel(target(), self.queue(plan, store))
        assert not done.kept

    def test_one_with_jobs_of_its_own_does(self, plan, wider, store, target):
        queue = self.queue(plan, store)
        other = store.save_plan(wider)
        queue.entries.append(queued("300_0", batch=send(store, wider, ["own"], job_id="300")))
        age(other, 3600.0)
        assert set(cancel(target(), queue).kept) == {"first", "second"}

    def test_once_both_are_cancelled_nothing_is_kept(self, plan, wider, store, target):
        queue = self.queue(plan, store)
        store.save_plan(wider)
        assert set(cancel(target(of=wider), queue).kept) == {"first", "second"}
        done = cancel(target(), queue)
        assert not done.kept
        assert set(done.jobs) == {"first", "second", "third"}


PROCESS = """
import json, signal, sys, time
from launch.running.processes import identity
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(json.dumps(identity()), flush=True)
time.sleep(60)
"""


@pytest.fixture
def process():
    """A process that ends at SIGTERM, and its identity."""
    child = subprocess.Popen([sys.executable, "-c", PROCESS], stdout=subprocess.PIPE, text=True)
    yield child, json.loads(child.stdout.readline())
    child.kill()
    child.wait()
    child.stdout.close()


def test_the_local_queue_of_a_pipeline_is_asked(plan, store, target, process):
    child, found = process
    batch = create_batch(store, "local", [element(one, plan, target().folder.name) for one in plan])
    write_json(batch / "elements.json", {**read_json(batch / "elements.json"), "launcher": found})
    done = cancel(target(), Queue())
    assert child.wait(10) == 0
    assert done.lines() == [f"asked the queue in process {child.pid} to save and stop"]


def test_a_local_stage_is_asked_by_itself(plan, store, target, process):
    child, found = process
    attempt(store, plan, "first", process=found)
    done = cancel(target("first"), Queue())
    assert child.wait(10) == 0
    assert done.signalled == ["first"]


def test_what_runs_on_another_host_is_named(plan, store, target):
    attempt(store, plan, "first").beat.touch()
    assert cancel(target(), Queue()).lines() == ["first runs on n1: type this there"]
