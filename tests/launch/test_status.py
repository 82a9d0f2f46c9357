"""The state of stages that went to Slurm: the queue first, then the script's verdict, then the attempt's own record."""

import time

import pytest

from launch.status import counts, status_now
from tests.launch.slurm_records import Queue, attempt, finish, queued, send, settle
from vssl.artifacts import write_json


@pytest.fixture
def plan(stage, make_plan):
    """first -> second -> third, and one apart."""
    first = stage("first", seed=1)
    second = stage("second", [first], seed=2)
    return make_plan(first, second, stage("third", [second], seed=3), stage("apart", seed=4))


def ask(plan, store, queue):
    statuses, view = status_now(plan, store, store.pipeline(plan).name, queue)
    return {one.name: one for one in statuses}, view


def test_a_store_without_slurm_asks_nobody(plan, store):
    queue = Queue()
    found, view = ask(plan, store, queue)
    assert {one.state for one in found.values()} == {"waiting"}
    assert queue.reads == 0
    assert not view.silent


def test_what_is_finished_asks_nobody(plan, store):
    batch = send(store, plan, list(plan.by_name))
    for name in plan.by_name:
        finish(store, plan, name)
    queue = Queue(queued("100_0", "COMPLETING", batch))
    found, _ = ask(plan, store, queue)
    assert {one.state for one in found.values()} == {"done"}
    assert queue.reads == 0


def test_the_queue_says_what_is_queued_and_what_runs(plan, store):
    batch = send(store, plan, ["first", "second", "third"])
    attempt(store, plan, "first", batch, "100_0").beat.write_text("12 40\n")
    later_s = time.time() + 3600
    queue = Queue(
        queued("100_0", "RUNNING", batch, nodes="n[1-2]"),
        queued("100_1", batch=batch, reason="Dependency"),
        queued("100_2", batch=batch, reason="Resources", start_s=later_s),
    )
    found, _ = ask(plan, store, queue)
    assert [one.state for one in found.values()] == ["running", "queued", "queued", "waiting"]
    assert (found["first"].step, found["first"].steps, found["first"].where) == (12, 40, "n[1-2]")
    assert found["second"].reason == "waits for first"
    assert found["third"].slurm_reason == "Resources"
    assert found["third"].expected_s == later_s
    assert found["second"].job == "100_1"
    assert queue.reads == 1
    assert counts(list(found.values())) == {"running": 1, "queued": 2, "waiting": 1}


def test_a_stopped_stage_that_is_requeued_is_queued(plan, store):
    batch = send(store, plan, ["first"])
    attempt(store, plan, "first", batch, "100_0", outcome="saved", exit_code=75)
    settle(batch, 0, "preempted", decision="requeue", exit_code=75)
    found, _ = ask(plan, store, Queue(queued("100_0", batch=batch, reason="BeginTime", restarts=1)))
    assert found["first"].state == "queued"
    assert "begin time" in found["first"].reason


def test_the_queue_decides_over_a_fresh_beat(plan, store):
    batch = send(store, plan, ["first", "apart"])
    for name, job in (("first", "100_0"), ("apart", "100_1")):
        attempt(store, plan, name, batch, job).beat.touch()
    found, _ = ask(plan, store, Queue(queued("100_1", "RUNNING", batch, nodes="n2")))
    assert found["first"].state == "failed"
    assert "without a word" in found["first"].reason
    assert found["apart"].state == "running"


def test_the_queue_decides_over_an_old_beat(plan, store):
    batch = send(store, plan, ["first"])
    attempt(store, plan, "first", batch, "100_0", ago_s=9000.0)
    found, _ = ask(plan, store, Queue(queued("100_0", "RUNNING", batch, nodes="n2")))
    assert found["first"].state == "running"


@pytest.mark.parametrize(
    ("cause", "error", "exit_code", "outcome", "state", "reason"),
    [
        ("exception", "rank 1 on n2: ValueError: no", 1, "failed", "failed", "exception in rank 1 on n2: ValueError"),
        ("out_of_memory", "slurmstepd: oom-kill", 1, None, "failed", "out of memory: slurmstepd: oom-kill"),
        ("hung", "hung: rank 0 on n1: no step", 75, None, "failed", "hung: rank 0 on n1"),
        ("no_start", "srun ended with 127 before Python had begun", 1, None, "failed", "no start: srun ended with 127"),
        ("signal", "cancelled", 75, "saved", "saved", "stopped (cancelled) and not requeued"),
        ("signal", "cancelled", 75, None, "cancelled", "cancelled while it ran"),
        ("time_limit", "; requeued 2 times for that", 75, "saved", "saved", "goes on from its checkpoint"),
        ("preempted", "stopped 3 times in a row (preempted) without", 1, "saved", "failed", "stopped 3 times in a row"),
    ],
)
def test_the_script_says_how_a_job_ended(plan, store, cause, error, exit_code, outcome, state, reason):
    batch = send(store, plan, ["first"])
    attempt(store, plan, "first", batch, "100_0", outcome=outcome)
    settle(batch, 0, cause, error=error, exit_code=exit_code)
    found, _ = ask(plan, store, Queue())
    assert found["first"].state == state
    assert reason in found["first"].reason
    assert found["first"].cause == cause


def test_a_job_that_failed_before_its_claim_is_failed(plan, store):
    batch = send(store, plan, ["first"], ended=True)
    settle(batch, 0, "refused", error="first was not started: its parent is gone", exit_code=78)
    queue = Queue()
    found, _ = ask(plan, store, queue)
    assert found["first"].state == "failed"
    assert "was not started" in found["first"].reason
    assert [found[name].state for name in ("second", "third", "apart")] == ["cancelled", "cancelled", "waiting"]
    assert found["third"].blocked_by == ("first",)
    assert found["third"].reason == "blocked by first"
    assert queue.reads == 0, "the batch has ended"


def test_a_verdict_on_an_earlier_run_of_the_job_does_not_count(plan, store):
    batch = send(store, plan, ["first"])
    settle(batch, 0, "node_failure", decision="requeue", exit_code=75)
    attempt(store, plan, "first", batch, "100_0", restart=1, token=2, outcome="failed", error="RuntimeError: no")
    found, _ = ask(plan, store, Queue())
    assert found["first"].reason == "RuntimeError: no"


def test_a_newer_batch_counts_and_an_older_failure_does_not(plan, store):
    old = send(store, plan, ["first"], ended=True, ago_s=500.0)
    attempt(store, plan, "first", old, "100_0", ago_s=400.0, outcome="failed", error="x")
    settle(old, 0, "exception", error="exception in rank 0 on n1: x", ago_s=390.0)
    new = send(store, plan, ["first"], job_id="200")
    found, _ = ask(plan, store, Queue(queued("200_0", batch=new, reason="Priority")))
    assert (found["first"].state, found["first"].job) == ("queued", "200_0")
    found, _ = ask(plan, store, Queue())
    assert (found["first"].state, found["first"].reason) == ("cancelled", "left the queue without having run")


def test_a_local_run_after_a_batch_counts(plan, store):
    batch = send(store, plan, ["first"], ended=True, ago_s=500.0)
    settle(batch, 0, "exception", error="exception in rank 0 on n1: x", ago_s=400.0)
    attempt(store, plan, "first", token=2, outcome="saved", ago_s=20.0)
    found, _ = ask(plan, store, Queue())
    assert found["first"].state == "saved"


def test_what_a_person_took_out_is_no_failure(plan, store):
    batch = send(store, plan, ["first", "second"])
    write_json(batch / "cancelled.json", {"0": 1, "1": 1})
    attempt(store, plan, "first", batch, "100_0", outcome="saved")
    settle(batch, 0, "signal", error="cancelled", exit_code=75)
    found, _ = ask(plan, store, Queue())
    assert found["first"].state == "saved"
    assert "cancelled by `vssl cancel`" in found["first"].reason
    assert (found["second"].state, found["second"].reason) == ("cancelled", "cancelled by `vssl cancel`")


def test_children_of_what_left_the_queue_name_it(plan, store):
    send(store, plan, ["first", "second", "third"])
    found, _ = ask(plan, store, Queue())
    assert [one.state for one in found.values()] == ["cancelled", "cancelled", "cancelled", "waiting"]
    assert found["third"].blocked_by == ("first",)


def test_a_doomed_child_in_the_queue_is_cancelled_already(plan, store):
    batch = send(store, plan, ["first", "second"])
    settle(batch, 0, "exception", error="exception in rank 0 on n1: x")
    found, _ = ask(plan, store, Queue(queued("100_1", batch=batch, reason="DependencyNeverSatisfied")))
    assert found["second"].state == "cancelled"


def test_a_silent_controller_leaves_the_store(plan, store):
    batch = send(store, plan, ["first", "second", "apart"])
    finish(store, plan, "first")
    attempt(store, plan, "second", batch, "100_1", ago_s=20.0).beat.touch()
    queue = Queue(silent="squeue did not answer within 15 s")
    found, view = ask(plan, store, queue)
    assert view.silent == "squeue did not answer within 15 s"
    assert [one.state for one in found.values()] == ["done", "running", "waiting", "queued"]
    assert "100_2, which does not answer now" in found["apart"].reason


def test_an_interrupted_submission_is_told_from_one_that_has_just_worked(plan, store):
    send(store, plan, ["first"], job_id=None)
    send(store, plan, ["apart"], ago_s=0.0)
    found, _ = ask(plan, store, Queue())
    assert found["first"].state == "waiting"
    assert "interrupted" in found["first"].reason
    assert found["apart"].state == "queued"


def test_what_ends_while_the_queue_is_asked_is_done(plan, store):
    batch = send(store, plan, ["first"])
    attempt(store, plan, "first", batch, "100_0")

    class Late(Queue):
        def queue(self):
            finish(store, plan, "first")
            return super().queue()

    found, _ = ask(plan, store, Late())
    assert found["first"].state == "done"


def test_a_batch_that_was_given_up_does_not_count(plan, store):
    batch = send(store, plan, ["first"])
    write_json(batch / "void.json", {"why": "the launcher was killed", "at_ms": 1})
    queue = Queue()
    found, _ = ask(plan, store, queue)
    assert found["first"].state == "waiting"
    assert queue.reads == 0


def test_another_pipelines_job_is_ours_to_see(plan, store, make_plan):
    larger = make_plan(*plan.stages, sweep="larger")
    batch = send(store, larger, ["first"])
    found, _ = ask(plan, store, Queue(queued("100_0", batch=batch, reason="Priority")))
    assert found["first"].state == "queued"
