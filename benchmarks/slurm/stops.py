"""Stages that are told to stop, or fail, and how soon and how they come out of it."""

import time
from collections import Counter
from collections.abc import Iterator

from benchmarks.slurm.figures import Bench, Row, listed
from benchmarks.slurm.typed import Prompt
from benchmarks.slurm.underway import UnderWay, stage
from launch.running.causes import Policy
from launch.status import status_now
from tests.slurm.daemons import wait_until
from tests.slurm.sandbox import DEFAULT, Variant
from vssl.artifacts import read_json

STEP_S, SAVE_S = 2.0, 1.0
PREEMPTIONS, TIME_LIMITS = 20, 3


def f9(bench: Bench) -> Iterator[Row]:
    """A signal, five times, to a stage beside which another one runs."""
    run = UnderWay(
        bench, bench.cluster(), stage("told", seed=1, steps=600, step_s=STEP_S, save_s=SAVE_S),
        stage("beside", seed=2, steps=9000, step_s=0.1),
    )  # fmt: skip
    run.submit()
    saved, again = [], []
    for restart in range(5):
        job = run.runs("told", restart).job
        time.sleep(restart * (STEP_S + SAVE_S) / 5)  # at another moment of a step each time
        told_s = time.time()
        run.scheduler.signal(job, "USR2")
        wait_until(lambda: "outcome" in run.attempt("told"), "the save")
        ended_s = run.attempt("told")["ended_at_ms"] / 1000
        saved.append(ended_s - told_s)
        # Nobody helps but the stage beside it.
        wait_until(lambda after=restart: run.attempt("told")["slurm"]["restart"] > after, "the next start")  # type: ignore[misc]
        again.append(run.attempt("told")["started_at_ms"] / 1000 - ended_s)
    causes = Counter(one["cause"] for one in run.verdicts("told"))
    run.scheduler.cancel(sorted({one.array for one in run.line.queue()}))
    yield Row(
        what=f"signal to saved, steps of {STEP_S:g} s and saves of {SAVE_S:g} s, worst of 5",
        value=f"{max(saved):.1f} s ({listed(saved)}), causes {dict(causes)}",
        bar=f"<= 1 step + save = {STEP_S + SAVE_S:g} s",
        ok=max(saved) <= STEP_S + SAVE_S + 0.2 and set(causes) == {"signal"},
    )
    yield Row(
        what="saved to running again, requeue included, with another stage running, worst of 5",
        value=f"{max(again):.1f} s ({listed(again)})",
        bar="<= 10 s",
        ok=max(again) <= 10,
    )


def f10(bench: Bench) -> Iterator[Row]:
    """Twenty preemptions and three time limits of one stage."""
    run = UnderWay(bench, bench.cluster(), stage("victim", seed=1, steps=9000, step_s=0.1))
    run.submit()
    expected = []
    for restart in range(PREEMPTIONS + TIME_LIMITS):
        entry = run.runs("victim", restart)
        if restart < PREEMPTIONS:
            run.preempt(entry.nodes)
            expected.append("preempted")
        else:
            run.limit_to_a_minute(entry.job)
            expected.append("time_limit")
        run.settled("victim", restart)
    run.runs("victim", PREEMPTIONS + TIME_LIMITS)
    found = [one["cause"] for one in run.verdicts("victim")]
    wrong = sum(one != other for one, other in zip(found, expected)) + abs(len(found) - len(expected))
    run.scheduler.cancel(sorted({one.array for one in run.line.queue()}))
    yield Row(
        what=f"{PREEMPTIONS} preemptions and {TIME_LIMITS} time limits of one stage: causes",
        value=", ".join(f"{number} {cause}" for cause, number in Counter(found).items()) + f"; {wrong} misclassified",
        bar="0 misclassified",
        ok=wrong == 0,
    )


def f12(bench: Bench) -> Iterator[Row]:
    """A parent with 200 stages below it that fails."""
    root = stage("root", seed=0, steps=20, step_s=0.1, fail_at=10)
    run = UnderWay(bench, bench.cluster(), root, *(stage(f"leaf.{lane}", [root], seed=lane) for lane in range(200)))
    run.submit()
    at_s = run.settled("root")["at_ms"] / 1000
    wait_until(run.is_empty, "an empty queue")
    took_s = time.time() - at_s
    found, _ = status_now(run.plan, run.line.store, run.line.store.pipeline(run.plan).name, run.scheduler)
    states = Counter(one.state for one in found)
    yield Row(
        what="a parent fails: all 200 below it gone from the queue, and told as cancelled",
        value=f"{took_s:.1f} s, {dict(states)}",
        bar="<= 10 s, 1 failed, 200 cancelled",
        ok=took_s <= 10 and states == {"failed": 1, "cancelled": 200},
    )


def f15(bench: Bench) -> Iterator[Row]:
    """One rank raises while the other one does not listen, as in a collective."""
    run = UnderWay(bench, bench.cluster(), stage("two", ranks=2, seed=1, steps=2, step_s=300, fail_at=0, rank=1))
    run.submit()
    verdict = run.settled("two")
    (raised,) = (read_json(path) for path in run.line.store.batches.glob("*/ranks/*-1.json"))
    took_s = (verdict["at_ms"] - raised["at_ms"]) / 1000
    wait_until(run.is_empty, "an empty queue")
    said = Prompt(bench).vssl("why", run.root).well().out.strip()
    named = "exception in rank 1" in said and "the probe fails at step 0" in said
    yield Row(
        what="one rank of two raises: to the end of the step",
        value=f"{took_s:.1f} s; why: {said.partition(';')[0][:110]}",
        bar=f"<= KillWait + 10 = {DEFAULT.kill_wait_s + 10} s, cause, rank and error named",
        ok=took_s <= DEFAULT.kill_wait_s + 10 and named,
    )


def raw_id(bench: Bench) -> Iterator[Row]:
    """The element whose raw id is its array's, requeued while its siblings run."""
    lanes = [stage(f"lane.{at}", seed=at, steps=200, step_s=0.1) for at in range(3)]
    run = UnderWay(bench, bench.cluster(), *lanes)
    run.submit()
    jobs = {f"lane.{at}": run.runs(f"lane.{at}").job for at in range(3)}
    raw = next(name for name, job in jobs.items() if run.scheduler.show_job(job)["JobId"] == job.partition("_")[0])
    run.scheduler.signal(jobs[raw], "USR2")
    run.finish()
    starts = {name: len(run.verdicts(name)) for name in jobs}
    yield Row(
        what="an element whose raw id is its array's requeues itself: starts of it and of its siblings",
        value=f"{starts.pop(raw)}, and {', '.join(map(str, starts.values()))}",
        bar="2, and 1, 1",
        ok=set(starts.values()) == {1} and len(run.verdicts(raw)) == 2,
    )


def kill_wait(bench: Bench) -> Iterator[Row]:
    """Saves that take 20 s, under KillWait 5 and 30, stopped in every way that there is."""
    for seconds in (5, 30):
        yield _long_saves(bench, seconds)


def _long_saves(bench: Bench, seconds: int) -> Row:
    ways = ("usr2", "term", "preempted", "time_limit")
    stages = [stage(way, ranks=2, seed=at, steps=3, step_s=1, save_s=20) for at, way in enumerate(ways)]
    cluster = bench.cluster(Variant(kill_wait_s=seconds, grace_s=45))
    run = UnderWay(bench, cluster, *stages, policy=Policy(signal_delay_s=40))
    run.submit()
    run.until(lambda: all(run.attempt(way) for way in ways), "the start of all")
    entries = {way: entry for way in ways if (entry := run.entry(way)) is not None}
    for way, entry in entries.items():
        if way in ("usr2", "term"):
            run.scheduler.signal(entry.job, way.upper())
        elif way == "preempted":
            run.preempt(entry.nodes)
        else:
            run.limit_to_a_minute(entry.job)
    said = [run.settled(way, timeout_s=150) for way in ways]
    run.finish()
    rows = run.scheduler.accounting(sorted({entry.array for entry in entries.values()}), time.time() - 3600)
    states = Counter(row["State"].partition(" ")[0] for row in rows)
    requeued = all(one["decision"] == "requeue" for one in said)
    return Row(
        what=f"KillWait {seconds} s, saves of 20 s by one rank of two: stopped by {', '.join(ways)}",
        value=f"{', '.join(one['cause'] + ': ' + one['decision'] for one in said)}; Slurm: {dict(states)}",
        bar="all requeued, none FAILED, all complete",
        ok=requeued and not states.keys() & {"FAILED", "CANCELLED", "TIMEOUT"},
    )
