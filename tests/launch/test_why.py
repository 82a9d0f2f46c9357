"""Sentences: what a stage waits for or died of, and what to do."""

import json
import time
from dataclasses import replace

import pytest

from launch.slurm.pending import clock, meaning
from launch.status import status_now
from launch.verbs.targets import Target
from launch.verbs.why import Reasons
from tests.launch.slurm_records import Queue, attempt, finish, queued, send, settle
from vssl.artifacts import write_json


@pytest.fixture
def plan(stage, make_plan):
    """first -> second -> third, and three lanes of an element below first."""
    first = stage("first", seed=1)
    second = stage("second", [first], seed=2)
    lanes = [stage(f"lane.{number}", [first], seed=10 + number) for number in range(3)]
    return make_plan(first, second, stage("third", [second], seed=3), *lanes)


@pytest.fixture
def explain(plan, store):
    folder = store.save_plan(plan)

    def explain(queue=None, selector=""):
        queue = queue or Queue()
        statuses, view = status_now(plan, store, folder.name, queue)
        target = Target(folder=folder, plan=plan, store=store, selector=selector)
        return [one.text for one in Reasons(target, statuses, view, queue).explain()]

    explain.folder = folder
    return explain


def test_a_failure_is_told_once_and_says_what_to_do(plan, store, explain):
    batch = send(store, plan, ["first", "second", "third"])
    attempt(store, plan, "first", batch, "100_0", outcome="failed")
    settle(batch, 0, "exception", error="exception in rank 1 on n2: ValueError: no such mode")
    failed, cancelled = explain()
    assert failed == (
        "first failed: exception in rank 1 on n2: ValueError: no such mode; "
        f"see `vssl logs {explain.folder.name}/first --rank 1`; mend it and run the same line again"
    )
    assert cancelled == (
        "second, third, lane.0 and 2 more were cancelled because first failed; mend that and run the same line again"
    )
    assert explain(selector="third") == [
        "third was cancelled because first failed; mend that and run the same line again"
    ]


def test_what_a_line_left_out_waits_for_nothing(plan, store, explain):
    store.save_plan(plan, ["first", "second"])
    send(store, plan, ["first", "second"])
    finish(store, plan, "first")
    finish(store, plan, "second")
    assert explain() == [
        "third, lane.0, lane.1 and 1 more were left out of the newest line by only=, from= or until=; "
        "the line without these keys runs all that is left"
    ]
    assert explain(selector="third")[0].startswith("third was left out of the newest line")
    store.save_plan(plan)
    assert "left out" not in explain()[0]


def test_a_chain_names_who_waits_for_whom_and_how_long(plan, store, explain):
    batch = send(store, plan, ["first", "second", "third"])
    folder = attempt(store, plan, "first", batch, "100_0", ago_s=100.0)
    now_ms = time.time_ns() // 1_000_000
    rows = [{"step": step, "time_ms": now_ms - 1000 * (300 - step), "values": {}} for step in (280, 290, 300)]
    folder.journal.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder.beat.write_text("300 9000\n")
    entries = [
        queued("100_0", "RUNNING", batch, nodes="n1"),
        *(queued(f"100_{index}", batch=batch, reason="Dependency") for index in (1, 2)),
    ]
    queue = Queue(*entries)
    assert explain(queue, "first") == ["first runs on n1 (step 300/9000, about 2 h 25 min left)"]
    runs = "runs on n1 (step 300/9000, about 2 h 25 min left)"
    assert explain(queue, "second") == [f"second waits for first, which {runs}"]
    (third,) = explain(queue, "third")
    assert third.startswith("third waits for second; first of all first runs on n1 (step 300/9000")


def test_the_queue_gives_its_reasons(plan, store, explain):
    finish(store, plan, "first")
    batch = send(store, plan, ["lane.0", "lane.1", "lane.2", "second"])
    moment_s = time.time() + 7200
    entries = [
        queued("100_0", batch=batch, reason="Resources", start_s=moment_s),
        queued("100_1", batch=batch, reason="BeginTime", start_s=time.time() + 95.4),
        queued("100_2", batch=batch, reason="QOSMaxJobsPerUserLimit"),
        queued("100_3", batch=batch, reason="JobHeldUser"),
    ]
    queue = Queue(*entries)
    assert explain(queue, "lane.0") == [
        "lane.0 waits in the queue: Resources (what it asks for is busy); "
        f"Slurm expects to start it at {clock(moment_s, time.time())}"
    ]
    assert explain(queue, "lane.1") == ["lane.1 waits for the begin time, 95 s; any vssl verb clears that"]
    assert explain(queue, "lane.2") == [
        "lane.2 waits in the queue: QOSMaxJobsPerUserLimit "
        "(the QOS lets only so much run at once; it starts as other jobs end)"
    ]
    (held,) = explain(queue, "second")
    assert held.endswith("`scontrol release 100_3` lets it go")


@pytest.mark.parametrize(
    ("reason", "says", "todo"),
    [
        ("Priority", "higher priority", ""),
        ("(null)", "not looked at it", ""),
        ("PartitionTimeLimit", "above the partition's", "resources.timeout_min"),
        ("ReqNodeNotAvail, UnavailableNodes:n2", "down, drained or reserved", "wait"),
        (
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
            "down, drained or reserved",
            "wait",
        ),
        ("AssocGrpCpuLimit", "your account lets only so much of all its users together", ""),
        ("AssocGrpCPUMinutesLimit", "used up its hours", "ask for more"),
        ("QOSMaxWallDurationPerJobLimit", "allows one job", "qos"),
        ("JobArrayTaskLimit", "array_parallelism", ""),
        ("SomethingNew", "no other word", ""),
    ],
)
def test_reasons_of_slurm_in_words(reason, says, todo):
    found = meaning(reason)
    assert says in found.text
    assert todo in found.todo
    assert bool(found.todo) == bool(todo)


def test_what_was_not_submitted_is_counted(plan, store, explain):
    finish(store, plan, "first")
    batch = send(store, plan, ["lane.0", "lane.1"])
    queue = Queue(*(queued(f"100_{index}", batch=batch, reason="Priority") for index in (0, 1)))
    assert explain(queue)[1:] == [
        "second, lane.2 are not submitted: 2 of 6 stages were sent to Slurm, 1 are done; the same line sends the rest",
        "third waits for second, which is not submitted: 2 of 6 stages were sent to Slurm, 1 are done; "
        "the same line sends the rest",
    ]


def test_accounting_is_asked_once_and_only_for_riddles(plan, store, explain):
    finish(store, plan, "first")
    batch = send(store, plan, ["second", "third", "lane.0"])
    attempt(store, plan, "lane.0", batch, "100_2")
    books = [{"JobID": "100_[0-1,5]", "State": "CANCELLED by 1000"}, {"JobID": "100_2", "State": "NODE_FAIL"}]
    queue = Queue(books=books)
    failed, cancelled, *_ = explain(queue)
    assert "(Slurm's accounting: NODE_FAIL)" in failed
    assert cancelled == (
        "second was cancelled: left the queue without having run (Slurm's accounting: CANCELLED by 1000); "
        "run the same line again"
    )
    assert (queue.reads, queue.asked_for_books) == (1, 1)
    for row in ("100_0", "100"):
        books[0]["JobID"] = row
        assert "CANCELLED by 1000" in explain(Queue(books=books), "second")[0]
    off = Queue()
    assert "accounting" not in " ".join(explain(off))
    settle(batch, 2, "exception", error="exception in rank 0 on n1: x")
    settle(batch, 0, "no_start", error="srun ended with 127 before Python had begun")
    settle(batch, 1, "refused", error="third was not started")
    known = Queue(books=books)
    explain(known)
    assert known.asked_for_books == 0


def test_many_lanes_share_a_sentence(stage, make_plan, store):
    def lanes(name, above, seed):
        return [
            replace(
                stage(f"{name}.{lane}", [above[lane]] if above else [], seed=seed + lane), template=name, element=name
            )
            for lane in range(6)
        ]

    single = lanes("single", None, 0)
    cross = lanes("cross", single, 10)
    plan = make_plan(*single, *cross, *lanes("linear", cross, 20))
    target = Target(folder=store.save_plan(plan), plan=plan, store=store)
    batch = send(store, plan, [one.name for one in single], job_id="100")
    below = send(store, plan, [one.name for one in cross], job_id="101")
    for lane in range(3):
        settle(batch, lane, "exception", error=f"rank 0 on n{lane}: ValueError: no")
    for lane in (3, 4):
        attempt(store, plan, f"single.{lane}", batch, f"100_{lane}").beat.write_text(f"{lane} 40\n")
    entries = [queued(f"100_{lane}", "RUNNING", batch, nodes=f"n{lane}") for lane in (3, 4)]
    entries += [queued("100_5", batch=batch, reason="JobHeldUser")]
    entries += [queued(f"101_{lane}", batch=below, reason="Dependency") for lane in range(3, 6)]
    statuses, view = status_now(plan, store, target.folder.name, Queue(*entries))
    assert [one.text for one in Reasons(target, statuses, view, Queue()).explain()] == [
        "single.0, single.1, single.2 failed: exception in rank 0: ValueError: no; "
        f"see `vssl logs {target.folder.name}/single.0`; mend it and run the same line again",
        "cross.0, cross.1, cross.2 and 3 more were cancelled because single failed; "
        "mend that and run the same line again",
        "single.5 waits in the queue: JobHeldUser (held by its owner); `scontrol release 100` lets it go",
        "cross.3, cross.4, cross.5 wait for single",
        "linear.3, linear.4, linear.5 wait for cross",
        "single.3, single.4 run",
    ]


def test_what_a_person_cancelled_is_no_riddle(plan, store, explain):
    batch = send(store, plan, ["first"])
    write_json(batch / "cancelled.json", {"0": 1})
    queue = Queue()
    assert explain(queue, "first") == ["first was cancelled by `vssl cancel`; run the same line again"]
    assert queue.asked_for_books == 0


def test_nothing_started_and_everything_done(plan, store, explain):
    assert explain()[0] == "first was not started yet; the same line starts it"
    for name in plan.by_name:
        finish(store, plan, name)
    assert explain() == []
    assert explain(selector="first") == ["first is done (made by other code)"]


def test_a_saved_stage_goes_on(plan, store, explain):
    attempt(store, plan, "first", outcome="saved")
    assert explain(selector="first") == [
        "first was stopped by a signal; goes on from its checkpoint; run the same line again"
    ]
