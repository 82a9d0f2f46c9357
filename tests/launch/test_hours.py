"""GPU-hours and core-hours, used and lost, from records whose times are written by hand."""

import json
import os

import pytest

from launch.running.claims import attempt_path, claim
from launch.verbs.hours import hours_lines, pipeline_hours
from tests.launch.slurm_records import attempt, finish, send, settle
from vssl.artifacts import read_json, write_json

HOUR = 3600.0


@pytest.fixture
def plan(stage, make_plan):
    """Two GPUs for one stage, three cores for the other."""
    gpus = {"gpus_per_node": 2, "tasks_per_node": 2}
    return make_plan(stage("first", seed=1, resources=gpus), stage("second", seed=2, resources={"tasks_per_node": 3}))


@pytest.fixture
def hours(plan, store):
    def hours(names=("first", "second")):
        return pipeline_hours(plan, store, store.pipeline(plan).name, names).to_mapping()

    return hours


def ended(folder, token, ago_s, **outcome):
    record = read_json(attempt_path(folder, token))
    now_ms = record["started_at_ms"]
    write_json(attempt_path(folder, token), {**record, **outcome, "ended_at_ms": round(now_ms + 1000 * ago_s)})


def journal(folder, *seconds, token=1):
    """Rows at seconds after the start of an attempt."""
    began_ms = read_json(attempt_path(folder, token))["started_at_ms"]
    with open(folder.journal, "a") as stream:
        for number, at_s in enumerate(seconds):
            row = {"step": number, "time_ms": round(began_ms + 1000 * at_s), "values": {}}
            stream.write(json.dumps(row) + "\n")


def test_a_calm_stage_loses_nothing(plan, store, hours):
    batch = send(store, plan, ["first"], ended=True)
    folder = attempt(store, plan, "first", batch, "100_0", ago_s=3 * HOUR)
    ended(folder, 1, 2 * HOUR, outcome="done")
    finish(store, plan, "first")
    assert hours() == {"GPU": {"used_h": pytest.approx(4.0), "lost_h": 0, "lost_by_cause": {}, "stops": {}}}


def test_what_another_pipeline_made_costs_nothing(plan, store, hours):
    folder = attempt(store, plan, "first", ago_s=3 * HOUR)
    ended(folder, 1, HOUR, outcome="done", pipeline="another")
    finish(store, plan, "first", pipeline="another")
    assert hours() == {}


def test_lost_is_what_came_after_the_last_durable_checkpoint(plan, store, hours):
    """Killed after two hours with rows left up to one and a half; preempted with all saved; done."""
    batch = send(store, plan, ["first"], ago_s=20 * HOUR)
    attempt(store, plan, "first", batch, "100_0", restart=0, token=1, ago_s=10 * HOUR)
    settle(batch, 0, "node_failure", restart=0, decision="requeue", ago_s=8 * HOUR)
    folder = attempt(store, plan, "first", batch, "100_0", restart=1, token=2, ago_s=7 * HOUR)
    ended(folder, 2, HOUR, outcome="saved")
    settle(batch, 0, "preempted", restart=1, decision="requeue", ago_s=6 * HOUR)
    attempt(store, plan, "first", batch, "100_0", restart=2, token=3, ago_s=5 * HOUR)
    ended(folder, 3, HOUR, outcome="done")
    journal(folder, 0.5 * HOUR, 1.5 * HOUR, token=1)
    journal(folder, 0.9 * HOUR, token=2)
    journal(folder, 0.9 * HOUR, token=3)
    finish(store, plan, "first")
    found = hours()["GPU"]
    assert found["used_h"] == pytest.approx(2 * (2 + 1 + 1), rel=1e-3)
    assert found["lost_by_cause"] == {"node_failure": pytest.approx(2 * 0.5, rel=1e-3), "preempted": 0}
    assert found["stops"] == {"node_failure": 1, "preempted": 1}


def test_an_attempt_that_did_nothing_is_lost_whole(plan, store, hours):
    batch = send(store, plan, ["first"], ago_s=20 * HOUR)
    folder = attempt(store, plan, "first", batch, "100_0", token=1, ago_s=10 * HOUR)
    ended(folder, 1, 0.5 * HOUR, outcome="saved")
    settle(batch, 0, "preempted", decision="requeue", ago_s=9.5 * HOUR)
    attempt(store, plan, "first", batch, "100_0", restart=1, token=2, ago_s=5 * HOUR)
    ended(folder, 2, HOUR, outcome="done")
    journal(folder, 0.9 * HOUR, token=2)
    finish(store, plan, "first")
    assert hours()["GPU"]["lost_by_cause"] == {"preempted": pytest.approx(1.0, rel=1e-3)}


def test_the_newest_attempt_is_judged_by_its_checkpoints(plan, store, hours):
    """Nothing has cut its journal yet."""
    folder = attempt(store, plan, "second", ago_s=4 * HOUR)
    journal(folder, HOUR, 2 * HOUR)
    checkpoint = folder.checkpoints / "10.pt"
    checkpoint.write_text("x")
    began_s = read_json(attempt_path(folder, 1))["started_at_ms"] / 1000
    os.utime(checkpoint, (began_s + HOUR, began_s + HOUR))
    folder.beat.touch()
    os.utime(folder.beat, (began_s + 3 * HOUR, began_s + 3 * HOUR))
    found = hours()["core"]
    assert found["used_h"] == pytest.approx(9.0, rel=1e-3), "three cores, to the last sign of life"
    assert found["lost_by_cause"] == {"killed": pytest.approx(6.0, rel=1e-3)}


def test_what_runs_has_lost_nothing_yet(plan, store, hours):
    folder = attempt(store, plan, "second", ago_s=HOUR)
    folder.beat.touch()
    assert hours()["core"]["used_h"] == pytest.approx(3.0, rel=1e-2)
    assert hours()["core"]["lost_h"] == 0


def test_a_redone_generation_is_lost(plan, store, hours):
    folder = attempt(store, plan, "second", ago_s=5 * HOUR)
    ended(folder, 1, HOUR, outcome="done")
    store.set_aside(plan["second"].folder, 1)
    assert hours()["core"] == {
        "used_h": pytest.approx(3.0),
        "lost_h": pytest.approx(3.0),
        "lost_by_cause": {"redone": pytest.approx(3.0)},
        "stops": {"redone": 1},
    }


def test_on_one_machine_the_gpus_that_the_queue_gave_count(plan, store, hours):
    folder = attempt(store, plan, "first", ago_s=5 * HOUR, ranks=1)
    ended(folder, 1, HOUR, outcome="done")
    folder.environment.mkdir()
    write_json(folder.environment / "1.json", {"variables": {"CUDA_VISIBLE_DEVICES": ""}})
    assert hours()["core"]["used_h"] == pytest.approx(1.0)
    write_json(folder.environment / "1.json", {"variables": {"CUDA_VISIBLE_DEVICES": "3"}})
    assert hours()["GPU"]["used_h"] == pytest.approx(1.0)


def test_a_claim_notes_when_a_dead_predecessor_was_last_seen(plan, store, hours):
    folder = attempt(store, plan, "second", ago_s=5 * HOUR, process={"host": "gone", "pid": 1, "boot_id": "x"})
    folder.beat.touch()
    began_s = read_json(attempt_path(folder, 1))["started_at_ms"] / 1000
    os.utime(folder.beat, (began_s + HOUR, began_s + HOUR))
    claim(folder, "later", {"pipeline": store.pipeline(plan).name, "ranks": 1})
    folder.beat.touch()
    assert read_json(attempt_path(folder, 2))["predecessor_seen_ms"] == pytest.approx(1000 * (began_s + HOUR), abs=2)
    found = hours()["core"]
    assert found["lost_by_cause"] == {"killed": pytest.approx(3.0, rel=1e-3)}


def test_two_lines_for_a_person(plan, store):
    batch = send(store, plan, ["first"], ago_s=20 * HOUR)
    folder = attempt(store, plan, "first", batch, "100_0", ago_s=10 * HOUR)
    ended(folder, 1, HOUR, outcome="failed")
    settle(batch, 0, "out_of_memory", ago_s=9 * HOUR)
    other = attempt(store, plan, "second", ago_s=10 * HOUR)
    ended(other, 1, 0.5 * HOUR, outcome="done")
    assert hours_lines(pipeline_hours(plan, store, store.pipeline(plan).name, list(plan.by_name))) == [
        "GPU-hours: 2 used, 2 of them lost (1 x out of memory: 2)",
        "core-hours: 1.5 used, none of them lost",
    ]
