"""The verbs on a real Slurm: what they say of stages that run, fail, come back and are taken out, and at what cost."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import pytest

from launch.executors.slurm import execute
from launch.plan import Plan
from launch.provenance import CHECKOUT
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import Scheduler
from launch.status import counts, status_now
from launch.store import Store
from tests.launch.conftest import planned
from tests.slurm.sandbox import Sandbox, Variant, wait_until

SandboxOf = Callable[[Variant], Sandbox]
# One sbatch at a time: what is told of nodes then does not depend on which of two stages was queued first.
PROFILE = Profile(name="sandbox", setup=("echo the modules are loaded",), sbatch_at_once=1)


class Place:
    """A store whose stages run on a sandbox."""

    def __init__(self, root, sandbox):
        self.store = Store(root, visibility_s=2)
        self.sandbox = sandbox
        self.scheduler = Scheduler()

    def submit(self, plan, profile=PROFILE):
        assert execute(plan, [stage.name for stage in plan], self.store, profile=profile) == 0
        return self.store.pipeline(plan)

    def look(self, plan):
        """The state of every stage, by one squeue."""
        before = self.scheduler.reads
        statuses, view = status_now(plan, self.store, self.store.pipeline(plan).name, self.scheduler)
        assert not view.silent
        assert self.scheduler.reads - before <= 1
        return {one.name: one for one in statuses}

    def states(self, plan):
        return {name: one.state for name, one in self.look(plan).items()}

    def until(self, plan, timeout_s=60.0, **states):
        wait_until(
            lambda: all(self.states(plan)[name] == state for name, state in states.items()), str(states), timeout_s
        )

    def vssl(self, *words, **more):
        environment = {**os.environ, **self.sandbox.environment, "VSSL_ROOT": str(self.store.root)}
        script = [sys.executable, str(CHECKOUT / "launch" / "cli.py"), *words]
        return subprocess.run(script, env=environment, capture_output=True, text=True, cwd="/", timeout=300, **more)

    def is_empty(self):
        return not self.sandbox.run("squeue", "--noheader").stdout


@pytest.fixture
def place(sandbox, tmp_path, monkeypatch):
    for name, value in sandbox.environment.items():
        monkeypatch.setenv(name, value)
    return Place(tmp_path / "root", sandbox)


def chain(**first):
    """one -> two -> three, and apart."""
    one = planned("one", seed=1, **first)
    two = planned("two", [one], seed=2)
    stages = (one, two, planned("three", [two], seed=3), planned("apart", seed=4, steps=2))
    return Plan(sweep="chain", scale="smoke", stages=stages, datasets={})


SLOW = {"steps": 400, "step_s": 0.25}


def test_a_failed_parent_and_all_below_it(place):
    """F12: in the first look after the failure, and nothing is left in the queue."""
    plan = chain(steps=4, step_s=0.1, fail_at=2)
    pipeline = place.submit(plan)
    place.until(plan, one="failed")
    found = place.look(plan)
    assert [found[name].state for name in ("two", "three")] == ["cancelled", "cancelled"]
    assert found["three"].blocked_by == ("one",)
    assert (found["one"].cause, found["one"].job.rpartition("_")[2]) == ("exception", "0")
    place.until(plan, apart="done")
    wait_until(place.is_empty, "an empty queue")
    said = place.vssl("why")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == [
        "one failed: exception in rank 0 on vssl-n1: RuntimeError: the probe fails at step 2, as its config asks; "
        f"see `vssl logs {pipeline.name}/one`; mend it and run the same line again",
        "two, three were cancelled because one failed; mend that and run the same line again",
    ]
    assert place.vssl("watch").returncode == 1
    logs = place.vssl("logs", "one")
    assert logs.stdout.startswith("the modules are loaded\n")
    assert logs.stdout.rstrip().endswith("RuntimeError: the probe fails at step 2, as its config asks")
    assert place.vssl("cancel").stdout == f"nothing of {pipeline.name} is queued or runs\n"


def test_a_thousand_stages(place):
    """F14: one squeue, no sacct."""
    names = ("single", "cross", "retrieval", "linear")
    lanes = [[] for _ in names]
    for lane in range(250):
        above = []
        for number, name in enumerate(names):
            stage = planned(f"{name}.{lane}", above, seed=1000 * number + lane)
            lanes[number].append(replace(stage, template=name, element=name, lane=lane))
            above = [stage]
    plan = Plan(sweep="grid", scale="smoke", stages=tuple(stage for ones in lanes for stage in ones), datasets={})
    place.sandbox.run("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        place.submit(plan)
        found = place.look(plan)
        assert counts(list(found.values())) == {"queued": 1000}
        assert found["linear.7"].reason == "waits for retrieval.7"
        wait_until(lambda: "PartitionDown" in place.vssl("why", "grid/single.3").stdout, "the scheduler's first look")
        assert place.vssl("cancel").returncode == 0
        wait_until(place.is_empty, "an empty queue")
        assert counts(list(place.look(plan).values())) == {"cancelled": 1000}
    finally:
        place.sandbox.run("scontrol", "update", "PartitionName=cpu", "State=UP")


def test_what_was_cancelled_is_saved_and_goes_on(place):
    plan = chain(steps=24, step_s=0.25)
    place.submit(plan)
    wait_until(lambda: place.look(plan)["one"].step >= 2, "two steps")
    done = place.vssl("cancel", "one")
    assert [line.partition(" (")[0] for line in done.stdout.splitlines()] == [
        "cancelled one",
        "cancelled two",
        "cancelled three",
    ]
    place.until(plan, one="saved", two="cancelled", three="cancelled", apart="done")
    assert "cancelled by `vssl cancel`" in place.look(plan)["one"].reason
    place.submit(plan)
    place.until(plan, one="done", two="done", three="done")
    assert place.look(plan)["one"].attempts == 2
    hours = json.loads(place.vssl("report", "--json").stdout)["hours"]["core"]
    assert hours["used_h"] > 6 / 3600
    assert hours["lost_h"] < hours["used_h"] / 2, "what was saved is not lost"


def test_a_stage_that_another_pipeline_uses_is_kept(place):
    plan = chain(**SLOW)
    place.submit(plan)
    own = planned("own", [plan["one"]], seed=9)
    wider = Plan(sweep="wider", scale="smoke", stages=(plan["one"], own), datasets={})
    other = place.submit(wider)
    done = place.vssl("cancel", "chain")
    assert f"kept one: {other.name} uses it" in done.stdout
    place.until(plan, two="cancelled", three="cancelled")
    assert place.states(wider) == {"one": "running", "own": "queued"}
    assert "kept" not in place.vssl("cancel", "wider").stdout
    wait_until(place.is_empty, "an empty queue")


def test_a_requeued_stage_is_queued_and_any_verb_brings_it_back(place):
    plan = chain(**SLOW)
    place.submit(plan)
    wait_until(lambda: place.look(plan)["one"].step >= 1, "a step")
    job = place.look(plan)["one"].job
    place.scheduler.signal(job, "USR2")
    place.until(plan, one="queued")
    place.until(plan, one="running")  # Slurm alone would take two minutes
    assert place.look(plan)["one"].job == job
    wait_until(lambda: place.look(plan)["one"].attempts == 2, "a second attempt")
    place.vssl("cancel")


@contextmanager
def watching(place):
    environment = {**os.environ, **place.sandbox.environment, "VSSL_ROOT": str(place.store.root)}
    code = "import launch.verbs.watch as w; w.LOOK_EVERY_S = 0.5; from launch.cli import main; main()"
    script = [sys.executable, "-u", "-c", code, "watch"]
    environment["PYTHONPATH"] = str(CHECKOUT)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(script, env=environment, start_new_session=True, **streams) as child:
        try:
            yield child
        finally:
            child.kill()


def test_watch_follows_a_pipeline_to_its_end(place):
    plan = chain(steps=4, step_s=0.2)
    place.submit(plan)
    with watching(place) as child:
        out, err = child.communicate(timeout=120)
        assert child.returncode == 0, err
    assert "[4/4] three: done" in out


def test_watch_that_is_left_touches_no_job(place):
    plan = chain(**SLOW)
    place.submit(plan)
    place.until(plan, one="running")
    with watching(place) as child:
        assert " queued" in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 75
    assert place.states(plan)["one"] == "running"
    place.vssl("cancel")


def test_gc_leaves_what_runs(place):
    plan = chain(**SLOW)
    pipeline = place.submit(plan)
    wait_until(lambda: place.look(plan)["one"].step >= 1, "a step")
    for path in pipeline.iterdir():
        path.unlink()
    pipeline.rmdir()
    done = place.vssl("gc", "--delete", "--json")
    assert done.returncode == 0, done.stderr
    assert place.store.stage(plan["one"].folder).attempts.is_dir()
    assert json.loads(done.stdout)["garbage"] == []
    place.scheduler.cancel(sorted({one.array for one in place.scheduler.queue()}))


@pytest.fixture
def quick_place(sandbox_of: SandboxOf, tmp_path, monkeypatch):
    """Without accounting, and with commands that give a silent controller up soon."""
    sandbox = sandbox_of(Variant(accounting=False, message_timeout_s=2))
    for name, value in sandbox.environment.items():
        monkeypatch.setenv(name, value)
    return Place(tmp_path / "quick", sandbox)


def test_a_controller_that_is_away(quick_place):
    place, plan = quick_place, chain(**SLOW)
    place.submit(plan)
    wait_until(lambda: place.look(plan)["one"].step >= 1, "a step")
    with place.sandbox.stopped("slurmctld"):
        shown = place.vssl("status", "--json")
        assert shown.returncode == 75
        assert "Slurm does not answer" in shown.stderr
        assert json.loads(shown.stdout)["counts"]["running"] >= 1
        assert place.vssl("cancel").returncode == 75
    assert place.states(plan)["one"] == "running"
    place.vssl("cancel")


def test_doctor_finds_out_with_one_job(place):
    place.store.root.mkdir()
    foreign = place.sandbox.submit("--hold", "--job-name=vssl-somebody", "--array=0-1", "--wrap=true")
    done = place.vssl("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    texts = " ".join(one["text"] for one in found)
    for said in (
        "accounting is on",
        "MaxArraySize is 1001",
        "jobs may be preempted",
        f"job {foreign} (vssl-somebody) with 2 elements belongs to no batch",
        "with the same packages as here",
        "USR2 reaches the ranks through srun",
        "TERM reaches the ranks through srun",
        "a job requeues itself from its node after USR2",
    ):
        assert said in texts
    assert not list(place.store.trials.iterdir()), "nothing is left where nothing was wrong"
    assert [one.array for one in place.scheduler.queue()] == [foreign, foreign]


def test_doctor_says_what_is_wrong(place, monkeypatch):
    place.store.root.mkdir()
    profiles = place.store.root / "profiles" / "cluster"
    profiles.mkdir(parents=True)
    (profiles / "odd.yaml").write_text("partition: nowhere\n")
    monkeypatch.setenv("VSSL_PROFILES", str(profiles.parent))
    done = place.vssl("doctor", "--cluster", "odd")
    assert done.returncode == 1
    assert "wrong  there is no partition nowhere here" in done.stdout
    assert place.is_empty()


def test_without_accounting_the_answers_are_the_same(place, quick_place, monkeypatch):
    plan = chain(steps=4, step_s=0.1, fail_at=2)
    answers = []
    for one in (place, quick_place):
        for name, value in one.sandbox.environment.items():
            monkeypatch.setenv(name, value)
        one.submit(plan)
        one.until(plan, one="failed", apart="done")
        answers.append(([(it.state, it.reason) for it in one.look(plan).values()], one.vssl("why").stdout))
    assert answers[0] == answers[1]


def test_accounting_solves_a_riddle(place):
    plan = chain(**SLOW)
    place.submit(plan)
    place.until(plan, one="running", apart="done")
    place.scheduler.cancel([place.look(plan)["two"].job])  # by hand, without a word to us
    place.until(plan, two="cancelled")
    assert place.look(plan)["two"].reason == "left the queue without having run"
    wait_until(lambda: "(Slurm's accounting: CANCELLED" in place.vssl("why", "two").stdout, "accounting")  # lags behind
    place.vssl("cancel")
