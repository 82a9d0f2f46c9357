import os
import time

import pytest

from launch.slurm import begin_time
from launch.slurm.begin_time import clear_begin_times, helper, mark_requeued
from launch.slurm.scheduler import SchedulerRefusedError
from tests.launch.slurm_batches import ScriptedSlurm, queued
from vssl.artifacts import write_json

JOB = "12_1"


@pytest.fixture
def slurm(store, monkeypatch):
    monkeypatch.setattr(begin_time, "LOOK_EVERY_S", 0.0)
    store.root.mkdir()
    return ScriptedSlurm()


def markers(store):
    return sorted(path.stem for path in store.requeued.glob("*.json"))


def age(store, job, seconds, restart=0):
    write_json(store.requeued / f"{job}.json", {"restart": restart, "at_ms": round(1000 * (time.time() - seconds))})


def test_nothing_is_asked_while_nothing_was_requeued(store, slurm):
    assert clear_begin_times(store, slurm) == []
    store.requeued.mkdir()
    assert clear_begin_times(store, slurm) == []
    assert slurm.reads == 0


def test_a_job_that_waits_for_its_begin_time_is_started_until_it_runs(store, slurm, monkeypatch):
    mark_requeued(store, JOB, 0)
    slurm.entries = [queued(JOB, state="RUNNING", reason="None", restarts=0)]
    assert clear_begin_times(store, slurm) == [], "the script has not asked for its requeue yet"
    slurm.entries = [queued(JOB, state="COMPLETING", reason="None")]
    assert clear_begin_times(store, slurm) == [], "what is cleared now is set again when the last process is gone"
    assert markers(store) == [JOB]
    slurm.entries = [queued(JOB)]
    assert clear_begin_times(store, slurm) == [JOB]
    assert slurm.started == [JOB]
    assert markers(store) == [JOB], "until it is seen to have helped"
    assert clear_begin_times(store, slurm) == [], "again and again, the time would never come"
    slurm.entries = [queued(JOB, reason="None")]
    assert clear_begin_times(store, slurm) == []
    assert markers(store) == [JOB], "Slurm has not looked at it yet"
    monkeypatch.setattr(begin_time, "CLEARED_S", 0.0)
    slurm.entries = [queued(JOB)]
    assert clear_begin_times(store, slurm) == [JOB], "it was set again when the last process was gone"
    slurm.entries = [queued(JOB, state="RUNNING", reason="None")]
    assert clear_begin_times(store, slurm) == []
    assert markers(store) == []


def test_one_squeue_for_all(store, slurm):
    jobs = [f"12_{index}" for index in range(5)]
    for job in jobs:
        mark_requeued(store, job, 0)
    slurm.entries = [queued(job) for job in jobs]
    assert clear_begin_times(store, slurm) == jobs
    assert slurm.reads == 1


def test_an_answer_at_hand_is_not_asked_for_again(store, slurm):
    mark_requeued(store, JOB, 0)
    assert clear_begin_times(store, slurm, [queued(JOB)]) == [JOB]
    assert slurm.reads == 0


def test_what_slurm_requeued_by_itself_is_helped_too(store, slurm):
    batch = store.batches / "ab12"
    (batch / "settled").mkdir(parents=True)
    entry = queued(JOB, name="vssl-ab12", restarts=2)
    assert clear_begin_times(store, slurm, [queued(JOB, name="vssl-another", restarts=2)]) == []
    assert clear_begin_times(store, slurm, [queued(JOB, name="vssl-ab12", restarts=0)]) == []
    write_json(batch / "settled" / "1.0.json", {})  # of an earlier start
    assert clear_begin_times(store, slurm, [entry]) == [JOB], "its node died, and settle with it"
    (store.requeued / f"{JOB}.json").unlink()
    write_json(batch / "settled" / "1.1.json", {})
    assert clear_begin_times(store, slurm, [entry]) == [], "settle has decided that it is to wait"


def test_many_helpers_ask_as_often_as_one(store, monkeypatch):
    monkeypatch.setattr(begin_time, "LOOK_EVERY_S", 60.0)
    store.root.mkdir()
    mark_requeued(store, JOB, 0)
    helpers = [ScriptedSlurm() for _ in range(20)]
    for one in helpers:
        clear_begin_times(store, one)
    assert sum(one.reads for one in helpers) == 1


@pytest.mark.parametrize("reason", ["Resources", "Priority", "JobHeldUser"])
def test_a_job_that_waits_for_something_else_is_let_go(store, slurm, reason):
    mark_requeued(store, JOB, 0)
    slurm.entries = [queued(JOB, reason=reason)]
    assert clear_begin_times(store, slurm) == []
    assert markers(store) == []


def test_a_job_that_is_gone_is_forgotten(store, slurm):
    mark_requeued(store, JOB, 0)
    age(store, JOB, 5)
    clear_begin_times(store, slurm)
    assert markers(store) == []


def test_a_job_that_was_never_requeued_after_all_is_forgotten(store, slurm):
    age_s = begin_time.FORGET_S
    store.requeued.mkdir()
    slurm.entries = [queued(JOB, state="RUNNING", restarts=3)]
    age(store, JOB, age_s / 2, restart=3)
    clear_begin_times(store, slurm)
    assert markers(store) == [JOB]
    age(store, JOB, 2 * age_s, restart=3)
    clear_begin_times(store, slurm)
    assert markers(store) == []


def test_a_silent_controller_or_one_that_refuses_changes_nothing(store, slurm, monkeypatch):
    mark_requeued(store, JOB, 0)
    slurm.entries = [queued(JOB)]
    slurm.silent = 1
    assert clear_begin_times(store, slurm) == []

    def refuse(job):
        raise SchedulerRefusedError("scontrol update", "Access denied")

    monkeypatch.setattr(slurm, "start_now", refuse)
    assert clear_begin_times(store, slurm) == []
    assert markers(store) == [JOB]


def test_a_helper_costs_one_listing_while_there_is_nothing(store, monkeypatch):
    """No `squeue` exists here: asking it would raise."""
    monkeypatch.setenv("PATH", "")
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(begin_time.os, "scandir", lambda path: listed.append(path) or scandir(path))
    helper(store)()
    assert listed == [store.requeued]
