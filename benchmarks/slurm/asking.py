"""What it costs to ask how a thousand stages stand."""

import json
import statistics
import time
from collections.abc import Iterator

from benchmarks.slurm.figures import Bench, Row, closed, listed
from benchmarks.slurm.submission import thousand
from benchmarks.slurm.typed import Prompt
from launch.slurm.scheduler import Scheduler
from launch.status import status_now
from launch.verbs.targets import find_target
from tests.slurm.sandbox import DEFAULT, Variant


def f14(bench: Bench) -> Iterator[Row]:
    """`vssl status` of 1,000 queued stages, with accounting and without."""
    answers, sweep = [], thousand(bench.place("sweep"))
    for variant in (DEFAULT, Variant(accounting=False)):
        cluster, prompt, root = bench.cluster(variant), Prompt(bench), bench.place("store")
        with closed(cluster):
            prompt.submit(sweep, root).well()
            lines = [prompt.vssl("status", root, "--json").well() for _ in range(3)]
            target, scheduler, inside = find_target("", root), Scheduler(), []
            for _ in range(3):
                began_s = time.perf_counter()
                status_now(target.plan, target.store, target.folder.name, scheduler)
                inside.append(time.perf_counter() - began_s)
        answers.append([(one["name"], one["state"], one["reason"]) for one in json.loads(lines[0].out)["stages"]])
        if variant == DEFAULT:
            seconds = [line.took_s for line in lines]
            asked = {name: len(lines[0].of(name)) for name in ("squeue", "sacct", "scontrol", "sinfo", "sacctmgr")}
            yield Row(
                what="status of 1,000 stages: what Slurm is asked",
                value=", ".join(f"{number} {name}" for name, number in asked.items() if number),
                bar="<= 1 squeue, <= 1 sacct, nothing else",
                ok=asked["squeue"] <= 1 and asked["sacct"] <= 1 and sum(asked.values()) <= 2,
            )
            yield Row(
                what="the same: seconds in a process that is up (in a cold one)",
                value=f"{statistics.median(inside):.2f} s ({statistics.median(seconds):.1f} s, of {listed(seconds)})",
                bar="<= 1 s",
                ok=statistics.median(inside) <= 1,
            )
    queued = sum(state == "queued" for _, state, _ in answers[0])
    yield Row(
        what="the same without accounting",
        value=f"{queued} queued, {'the same answer' if answers[0] == answers[1] else 'ANOTHER answer'}",
        bar="1,000, the same answer",
        ok=answers[0] == answers[1] and queued == 1000,
    )
