"""The same graph by the local queue and on Slurm."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.slurm.figures import Bench, Row
from benchmarks.slurm.typed import SMALL, Prompt, probe, write_sweep
from benchmarks.slurm.underway import made
from launch.running.claims import attempts
from launch.slurm.scheduler import Scheduler
from tests.lines import folder_of, plan_of
from tests.slurm.demo import LINE
from tests.slurm.sandbox import wait_until
from vssl.artifacts import StageFolder, read_json

GPU = {"gpus_per_node": 1, "cpus_per_task": 1, "mem_gb": 1, "timeout_min": 10}
CLOCKS = ("seconds", "_s", "_per_second")  # ends of the names of metrics that no two runs share


def twenty(folder: Path) -> Path:
    """20 stages that ask for a GPU each: four lanes of two chains that meet."""
    config = ["steps=3", "step_s=0.2"]
    stages = [
        probe("a", resources=GPU, config=config),
        probe("b", "a", resources=GPU, config=config),
        probe("c", "a", resources=GPU, config=[*config, "rank=1"]),
        probe("d", "b", resources=GPU, config=config),
        probe("e", "c", resources=GPU, config=config),
    ]
    stages[2]["config"].append("steps=4")
    return write_sweep(folder / "twenty.yaml", stages, {"all": {"seed": [0, 1, 2, 3]}})


def f20(bench: Bench) -> Iterator[Row]:
    """A graph of 20 stages with two GPUs, one and none, beside Slurm."""
    cluster, prompt, sweep = bench.cluster(), Prompt(bench), twenty(bench.place("sweep"))
    results, rows = [], []
    for slots, gpus in ((2, "0,1"), (1, "0"), (0, "")):
        root = bench.place("store")
        line = ["launch/pipeline.py", f"sweep={sweep}", "executor=local", f"root={root}"]
        prompt.type(*line, environment={"CUDA_VISIBLE_DEVICES": gpus}).well()
        plan = plan_of(root, "twenty")
        most, early = _at_once(root, plan), _early(root, plan)
        room = slots or len(os.sched_getaffinity(0))
        results.append({name: made(folder_of(root, "twenty", name)) for name in plan})
        rows.append((f"{most} of {room}", most <= room and not early and len(plan) == 20))
    root = bench.place("store")
    without = f"stages.all.resources={{{','.join(f'{key}:{value}' for key, value in SMALL.items())},gpus_per_node:0}}"
    prompt.submit(sweep, root, without).well()
    prompt.vssl("watch", root).well()
    wait_until(lambda: not Scheduler().queue(), "the end of the last jobs")  # they end after their stages
    results.append({name: made(folder_of(root, "twenty", name)) for name in plan_of(root, "twenty")})
    equal = all(one == results[0] for one in results)
    cluster.drain()
    yield Row(
        what="20 stages by the local queue with 2 GPUs, 1 and none (then cores): most at once",
        value=f"{', '.join(text for text, _ in rows)}; results {'equal' if equal else 'DIFFERENT'}, Slurm's too",
        bar="never more than the slots, dependencies kept, results as on Slurm",
        ok=all(good for _, good in rows) and equal,
    )


def _spans(root: Path, plan: Any) -> dict[str, tuple[int, int]]:
    """Stage -> from its start to its end."""
    found = {}
    for name in plan:
        folder = folder_of(root, "twenty", name)
        (attempt,) = attempts(folder)
        found[name] = attempt["started_at_ms"], attempt["ended_at_ms"]
    return found


def _at_once(root: Path, plan: Any) -> int:
    spans = _spans(root, plan).values()
    return max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)


def _early(root: Path, plan: Any) -> list[str]:
    spans = _spans(root, plan)
    parents = {
        name: [reference["stage"] for ones in one["inputs"].values() for reference in ones]
        for name, one in plan.items()
    }
    return [name for name in plan if any(spans[parent][1] > spans[name][0] for parent in parents[name])]


def demo(bench: Bench) -> Iterator[Row]:
    """The main pipeline on four virtual nodes, one stage on two nodes of two ranks, beside the local queue."""
    cluster = bench.cluster()
    prompt, on_slurm, here = Prompt(bench), bench.place("store"), bench.place("store")
    prompt.type("launch/pipeline.py", *LINE, "scale=smoke", f"root={on_slurm}").well()
    prompt.vssl("watch", on_slurm).well()
    local = [word for word in LINE if not word.startswith(("executor=", "cluster="))]
    prompt.type("launch/pipeline.py", *local, "executor=local", "scale=smoke", f"root={here}").well()
    plan = plan_of(on_slurm, "vicc_cross")
    ones, others = (
        {name: _finished(folder_of(root, "vicc_cross", name)) for name in plan} for root in (on_slurm, here)
    )
    differing = [name for name in plan if ones[name] != others[name]]
    wide = attempts(folder_of(on_slurm, "vicc_cross", "linear-rgb"))[-1]
    hosts = cluster.run("scontrol", "show", "hostnames", wide["slurm"]["hosts"]).stdout.split()
    yield Row(
        what=f"vicc_cross at smoke scale on 4 virtual nodes, {wide['ranks']} ranks of one stage on "
        f"{len(set(hosts))} nodes",
        value=f"{len(plan) - len(differing)} of {len(plan)} stages bit-equal to the local executor's"
        + (f", not {', '.join(differing)}" if differing else ""),
        bar="all",
        ok=not differing and wide["ranks"] == 4 and len(set(hosts)) == 2,
    )


def _finished(folder: StageFolder) -> tuple[Any, Any]:
    """(digest of each artifact, metrics) of a finished stage, without what a clock has made."""
    done = read_json(folder.done)
    metrics = {name: value for name, value in done["metrics"].items() if not name.endswith(CLOCKS)}
    return {name: one["digest"] for name, one in done["artifacts"].items()}, metrics
