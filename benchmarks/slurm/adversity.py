"""Pipelines to which much happens, beside calm ones: what comes out must be the same bytes."""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.slurm.figures import Bench, Row
from benchmarks.slurm.typed import Prompt, probe, write_sweep
from benchmarks.slurm.underway import UnderWay, made, stage
from launch.plan import PlannedStage
from launch.running.causes import Policy
from tests.slurm.sandbox import Variant
from vssl.run import read_journal
from vssl.tracking import tracking_uri

STEPS = {"one": 160, "wide": 160, "last": 30}
POLICY = Policy(signal_delay_s=45)  # so that a limit of a minute is near at once


def chain() -> tuple[PlannedStage, ...]:
    """one -> wide, on two nodes -> last, and apart."""
    one = stage("one", seed=1, steps=STEPS["one"], step_s=0.25)
    wide = stage("wide", [one], nodes=2, seed=2, steps=STEPS["wide"], step_s=0.25)
    return one, wide, stage("last", [wide], seed=3, steps=STEPS["last"], step_s=0.1), stage("apart", seed=4)


def all_made(run: UnderWay) -> Mapping[str, Any]:
    return {name: made(run.folder(name)) for name in run.plan.by_name}


def calm(bench: Bench) -> Mapping[str, Any]:
    """What the chain makes when nothing happens."""
    run = UnderWay(bench, bench.cluster(), *chain(), policy=POLICY)
    run.submit()
    run.finish()
    return all_made(run)


def misfortunes(bench: Bench) -> Iterator[Row]:
    """Five preemptions, two time limits and a node that goes down, in one pipeline."""
    expected = bench.kept(calm)
    cluster = bench.cluster()
    run = UnderWay(bench, cluster, *chain(), policy=POLICY)
    run.submit()
    for restart in range(3):
        run.preempt(run.runs("one", restart).nodes)
        run.settled("one", restart)
    _reach_the_limit(run, "one", 3)
    for restart in range(2):
        run.preempt(_hosts(run, "wide", restart)[restart])
        run.settled("wide", restart)
    _reach_the_limit(run, "wide", 2)
    node = _hosts(run, "wide", 3)[-1]
    cluster.set_node(node, "DOWN")
    run.settled("wide", 3, timeout_s=240)
    cluster.set_node(node, "RESUME")
    run.finish()
    prompt = Prompt(bench)
    causes = Counter(one["cause"] for name in run.plan.by_name for one in run.verdicts(name))
    yield Row(
        what="preempted 5 times, at its time limit twice, a node DOWN once, in one pipeline",
        value=f"{'bit-equal' if all_made(run) == expected else 'DIFFERS'}; {dict(causes)}",
        bar="complete, bit-equal to the calm run, 5 + 2 + 1",
        ok=all_made(run) == expected and causes == {"done": 4, "preempted": 5, "time_limit": 2, "node_failure": 1},
    )
    prompt.vssl("sync", run.root).well()
    runs, same = _tracked(run)
    yield Row(
        what="the same: MLflow",
        value=f"{runs} runs of {len(run.plan.stages)} stages and their pipeline, history {same}",
        bar="one a stage, history as in the journal",
        ok=runs == len(run.plan.stages) + 1 and same == "as in the journal",
    )
    lost = json.loads(prompt.vssl("report", run.root, "--json").well().out)["hours"]["core"]["lost_by_cause"]
    yield Row(
        what="the same: seconds lost by cause, in `vssl report`",
        value=", ".join(f"{cause} {3600 * hours:.2f}" for cause, hours in lost.items()) or "none",
        bar="no cause that did not happen",
        ok=bool(lost) and lost.keys() <= {"preempted", "time_limit", "node_failure"},
    )


def _hosts(run: UnderWay, name: str, restart: int) -> list[str]:
    """The nodes of a start of a stage, once it runs."""
    return run.cluster.run("scontrol", "show", "hostnames", run.runs(name, restart).nodes).stdout.split()


def _reach_the_limit(run: UnderWay, name: str, restart: int) -> None:
    job = run.runs(name, restart).job
    run.limit_to_a_minute(job)
    run.settled(name, restart)
    run.cluster.wait(job, "PENDING")
    run.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=10")


def _tracked(run: UnderWay) -> tuple[int, str]:
    """(runs, whether each stage's history is its journal)."""
    with sqlite3.connect(tracking_uri(run.root).removeprefix("sqlite:///")) as database:
        runs = dict(database.execute("select name, run_uuid from runs").fetchall())
        count = database.execute("select count(*) from runs").fetchone()[0]
        for name in run.plan.by_name:
            question = "select step, value from metrics where run_uuid = ? and key = 'value' order by step, timestamp"
            found = [tuple(row) for row in database.execute(question, (runs[name],)).fetchall()]
            rows = [(row["step"], row["values"]["value"]) for row in read_journal(run.folder(name).journal)]
            if found[: len(rows)] != rows or len(found) > len(rows) + 1:  # and the result at the end
                return count, f"of {name} DIFFERS"
    return count, "as in the journal"


def controller(bench: Bench) -> Iterator[Row]:
    """slurmctld stopped for a minute, during a submission and while a pipeline runs."""
    expected, cluster, prompt = bench.kept(calm), bench.cluster(), Prompt(bench)
    sweep = write_sweep(bench.place("sweep") / "away.yaml", [probe("one"), probe("two", "one"), probe("three", "two")])
    root, began_s = bench.place("store"), time.monotonic()
    with cluster.stopped("slurmctld"):
        away = prompt.submit(sweep, root, timeout_s=300)
        time.sleep(max(0.0, 60 - (time.monotonic() - began_s)))
    again = prompt.submit(sweep, root)
    watched = prompt.vssl("watch", root)
    said = "does not answer" in away.err or "unable to contact" in away.err.lower()
    yield Row(
        what="slurmctld away for 60 s during a submission: exit code, then the same line",
        value=f"{away.code} and {'says so' if said else 'SILENT'}, then {again.code}, watch {watched.code}",
        bar="75 and says so, then 0, complete",
        ok=(away.code, again.code, watched.code, said) == (75, 0, 0, True),
    )
    run = UnderWay(bench, cluster, *chain(), policy=POLICY)
    run.submit()
    run.runs("one", steps=5)
    with cluster.stopped("slurmctld"):
        time.sleep(60)
    run.finish()
    causes = Counter(one["cause"] for name in run.plan.by_name for one in run.verdicts(name))
    yield Row(
        what="slurmctld away for 60 s while a pipeline runs",
        value=f"{'bit-equal' if all_made(run) == expected else 'DIFFERS'}; {dict(causes)}",
        bar="nothing lost",
        ok=all_made(run) == expected and causes == {"done": 4},
    )


def database(bench: Bench) -> Iterator[Row]:
    """slurmdbd stopped for the whole life of a pipeline, with a requeue in it."""
    expected, cluster = bench.kept(calm), bench.cluster()
    with cluster.stopped("slurmdbd"):
        run = UnderWay(bench, cluster, *chain(), policy=POLICY)
        run.submit()
        run.scheduler.signal(run.runs("one").job, "USR2")
        run.settled("one")
        run.finish()
        status = Prompt(bench).vssl("status", run.root)
    yield Row(
        what="slurmdbd away for a whole pipeline with a requeue in it",
        value=f"{'bit-equal' if all_made(run) == expected else 'DIFFERS'}, status {status.code}",
        bar="nothing lost",
        ok=all_made(run) == expected and status.code == 0,
    )


def limit(bench: Bench) -> Iterator[Row]:
    """30 lanes of two stages where the queue takes 20 elements."""
    variant = Variant(max_submit_jobs=20)
    for how in ("--follow", "the same line again"):
        bench.cluster(variant)
        prompt, root = Prompt(bench), bench.place("store")
        stages = [probe("first"), probe("second", "first")]
        sweep = write_sweep(bench.place("sweep") / "limit.yaml", stages, {"all": {"seed": list(range(30))}})
        if how == "--follow":
            lines = [prompt.submit(sweep, root, "--follow", timeout_s=900)]
        else:
            lines, deadline = [prompt.submit(sweep, root)], time.monotonic() + 600
            while lines[-1].code == 75 and time.monotonic() < deadline:
                time.sleep(2)
                lines.append(prompt.submit(sweep, root))
        codes = [line.code for line in lines]
        done = prompt.vssl("watch", root)
        named = "20 of 60 stages queued now" in lines[0].out
        attempts = Counter(len(list(path.glob("attempts/*.json"))) for path in (root / "stages").iterdir())
        yield Row(
            what=f"30 lanes x 2 under MaxSubmitJobs=20, by {how}",
            value=f"{'prefix named' if named else 'NOT named'}, {len(codes)} lines, the last {codes[-1]}; "
            f"{attempts[1]} stages ran once",
            bar="20 queued and named, all 60 complete, each once",
            ok=named and codes[-1] == 0 and done.code == 0 and attempts == {1: 60},
        )
