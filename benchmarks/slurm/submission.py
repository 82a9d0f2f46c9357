"""How much Slurm is asked, and for how long a person waits, until a thousand stages are queued."""

import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.slurm.figures import Bench, Row, closed, listed, queued
from benchmarks.slurm.typed import SMALL, Prompt, Typed, probe, write_sweep
from launch.batches import in_flight
from launch.slurm.scheduler import Scheduler
from launch.store import Store
from tests.slurm.daemons import wait_until

LANES = 250
TEMPLATES = ("single", "cross", "linear", "retrieval")
REPEATS = 3


def thousand(folder: Path) -> Path:
    """250 lanes of four templates, each of which reads the one before it."""
    stages = [probe(name, *TEMPLATES[max(0, at - 1) : at]) for at, name in enumerate(TEMPLATES)]
    return write_sweep(folder / "thousand.yaml", stages, {"all": {"seed": list(range(LANES))}})


def cold(bench: Bench, sweep: Path, repeats: int, expected: int, *, listen: bool = True) -> list[Typed]:
    """The line, each time in a new store; no job starts."""
    cluster, prompt, found = bench.cluster(), Prompt(bench), []
    for _ in range(repeats):
        with closed(cluster):
            found.append(prompt.submit(sweep, bench.place("store"), listen=listen).well())
            assert queued() == expected
    return found


def f1(bench: Bench) -> Iterator[Row]:
    """1,000 stages of four resource sets."""
    lines = cold(bench, thousand(bench.place("sweep")), REPEATS, LANES * len(TEMPLATES))
    writes, seconds = lines[0].writes, [line.released_s for line in lines]
    arrays = len(lines[0].of("sbatch"))
    yield Row(
        what="1,000 stages, 250 lanes x 4: calls that change the queue",
        value=f"{writes} for {arrays} arrays",
        bar="<= 2 an array, <= 10",
        ok=writes <= min(2 * arrays, 10),
    )
    yield Row(
        what="the same: from the command to the release, cold process",
        value=f"{statistics.median(seconds):.1f} s (of {listed(seconds)})",
        bar="<= 5 s",
        ok=statistics.median(seconds) <= 5,
    )


def f2(bench: Bench) -> Iterator[Row]:
    """1,000 stages that share no resources, so that each is an array of its own."""
    stages = [probe(f"p{at}", resources=SMALL | {"timeout_min": 10 + at}) for at in range(1000)]
    for at, stage in enumerate(stages):
        stage["config"] = [f"seed={at}"]
    sweep = write_sweep(bench.place("sweep") / "different.yaml", stages)
    (line,) = cold(bench, sweep, 1, 1000)
    (alone,) = cold(bench, sweep, 1, 1000, listen=False)  # listening to a thousand commands takes seconds
    commands = len(line.of("sbatch")) + sum(call.words[1] == "release" for call in line.of("scontrol"))
    yield Row(
        what="1,000 stages of all-different resources: commands that change the queue",
        value=f"{commands} ({line.writes} calls: a release counts for each job)",
        bar="<= 1,050 commands",
        ok=commands <= 1050,
    )
    yield Row(
        what="the same: from the command to its end, cold process",
        value=f"{alone.took_s:.1f} s",
        bar="<= 20 s",
        ok=alone.took_s <= 20,
    )


def f3(bench: Bench) -> Iterator[Row]:
    """What a person waits for at a small pipeline."""
    stages = [probe("one"), probe("two", "one"), probe("three", "two")]
    lines = cold(bench, write_sweep(bench.place("sweep") / "three.yaml", stages), 5, 3)
    seconds = [line.first_job_s for line in lines]
    yield Row(
        what="3 stages: from the command to the first job in the queue, cold process",
        value=f"{statistics.median(seconds):.1f} s (of {listed(seconds)})",
        bar="<= 3 s",
        ok=statistics.median(seconds) <= 3,
    )


def f13(bench: Bench) -> Iterator[Row]:
    """A root that fails with 200 stages below it, and the same line after the mistake is mended."""
    cluster, prompt = bench.cluster(), Prompt(bench)
    root, sweep = bench.place("store"), bench.place("sweep") / "tree.yaml"
    grid = {"leaf": {"seed": list(range(200))}}

    def written(*overrides: str) -> Path:
        other = [probe("other", config=["seed=1"]), probe("apart", "other")]
        return write_sweep(sweep, [probe("root", config=list(overrides)), probe("leaf", "root"), *other], grid)

    prompt.submit(written("fail_at=1"), root).well()
    wait_until(lambda: not cluster.run("squeue", "--noheader").stdout, "the end of all jobs")
    with closed(cluster):
        line = prompt.submit(written(), root).well()
        store, queue = Store(root), Scheduler().queue()
        sent = sorted(one.batch.elements[one.entry.index]["name"] for one in in_flight(store, queue).values())
    kinds = {name.partition(".")[0] for name in sent}
    yield Row(
        what="a mended root and its 200 stages: calls that change the queue",
        value=f"{line.writes} for {len(sent)} stages of {', '.join(sorted(kinds))}",
        bar="<= 10, other branches untouched",
        ok=line.writes <= 10 and len(sent) == 201 and kinds == {"root", "leaf"},
    )
