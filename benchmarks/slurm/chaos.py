"""Pipelines of probes at which everything is thrown at random moments, until the same line has completed them."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.slurm.figures import Bench, Row
from benchmarks.slurm.typed import SMALL, Prompt, probe, write_sweep
from benchmarks.slurm.underway import made
from launch.provenance import CHECKOUT
from launch.running.claims import attempts, newest
from launch.slurm.begin_time import clear_begin_times
from launch.slurm.scheduler import QueuedElement, Scheduler, SchedulerRefusedError, SchedulerSilentError
from launch.store import Store
from tests.lines import folder_of, plan_of
from tests.slurm.sandbox import Sandbox, SandboxError
from vssl.artifacts import read_json

SCHEDULES = 25
EVENTS = 6  # of a schedule
SPAN_S = 25.0  # in which they happen
PATIENCE_S = 400.0
WIDE = SMALL | {"nodes": 2, "tasks_per_node": 2}


def write_chain(folder: Path) -> Path:
    """Two lanes of three stages; the one in the middle has two nodes of two ranks."""
    stages = [
        probe("first", config=["steps=40", "step_s=0.1"]),
        probe("wide", "first", resources=WIDE, config=["steps=30", "step_s=0.1"]),
        probe("last", "wide", config=["steps=20", "step_s=0.1"]),
    ]
    return write_sweep(folder / "chaos.yaml", stages, {"all": {"seed": [0, 1]}})


class Chaos:
    """One store, and what may happen to the jobs that work on it.

    Args:
        bench: for the store.
        cluster: where they run.
        seed: of all choices.
        lines: added to the environment of every line, and so of every job.
    """

    def __init__(self, bench: Bench, cluster: Sandbox, sweep: Path, seed: int, **lines: str) -> None:
        self.cluster, self.sweep = cluster, sweep
        self.root = bench.place("store")
        self.prompt, self.random, self.scheduler = Prompt(bench), random.Random(seed), Scheduler()
        self.lines = {name: value.replace("ROOT", str(self.root)) for name, value in lines.items()}
        self.happened: Counter[str] = Counter()
        self.codes: list[int] = []

    def type(self, *words: str) -> int:
        """The line, once more."""
        line = self.prompt.submit(self.sweep, self.root, *words, listen=False, environment=self.lines)
        self.codes.append(line.code)
        assert line.code in (0, 75), f"exit code {line.code}: {line.out[-1000:]} {line.err[-2000:]}"
        return line.code

    def running(self) -> list[QueuedElement]:
        return [one for one in self.scheduler.queue() if one.state == "RUNNING"]

    def watch(self) -> None:
        clear_begin_times(Store(self.root, visibility_s=0), self.scheduler)

    def preempted(self) -> None:
        """An urgent job takes a node."""
        self.cluster.submit(
            "--partition=high", "--exclusive", "--job-name=urgent", "--wrap=true", "--output=/dev/null",
            f"--nodelist={self.random.choice(self.cluster.nodes)}",
        )  # fmt: skip

    def rank_killed(self) -> None:
        """SIGKILL for one rank of a running stage."""
        pids = [
            int(vote["pid"]) for path in self.root.glob("stages/*/rendezvous/*.*.json") if (vote := read_json(path))
        ]
        for folder in (self.root / "stages").glob("*"):
            last = newest(Store(self.root).stage(folder.name))
            pids += [int(last["process"]["pid"])] if last is not None and last.get("outcome") is None else []
        alive = [pid for pid in sorted(set(pids)) if str(self.root) in _words(pid)]
        if alive:
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(alive), signal.SIGKILL)

    def script_killed(self) -> None:
        """SIGKILL for the batch script of a job."""
        if jobs := self.running():
            self.cluster.run("scancel", "--batch", "--signal=KILL", self.random.choice(jobs).job, check=False)

    def requeued(self) -> None:
        """By a person."""
        if jobs := self.running():
            with suppress(SchedulerRefusedError):
                self.scheduler.requeue(self.random.choice(jobs).job)

    def node_down(self) -> None:
        """For three seconds."""
        node = self.random.choice(self.cluster.nodes)
        self.cluster.set_node(node, "DOWN")
        time.sleep(3)
        self.cluster.set_node(node, "RESUME")

    def launcher_killed(self) -> None:
        """The line typed again, killed on its way, and typed again."""
        words = [f"sweep={self.sweep}", "executor=slurm", "cluster=sandbox", f"root={self.root}"]
        process = self.prompt.start("launch/pipeline.py", *words, environment=self.lines)
        time.sleep(self.random.uniform(0.2, 1.5))
        process.kill()
        process.communicate()
        self.type()

    def controller_restarted(self) -> None:
        """slurmctld gone and back."""
        self.cluster.stop("slurmctld", self.random.choice([signal.SIGTERM, signal.SIGKILL]))
        time.sleep(self.random.uniform(0, 3))
        self.cluster.start("slurmctld")

    def throw(self) -> None:
        """Everything, at random moments."""
        events: list[Callable[[], None]] = [
            self.preempted, self.rank_killed, self.script_killed, self.requeued, self.node_down, self.launcher_killed,
            self.controller_restarted,
        ]  # fmt: skip
        began_s = time.monotonic()
        for at_s in sorted(self.random.uniform(2, SPAN_S) for _ in range(EVENTS)):
            while time.monotonic() - began_s < at_s:
                with suppress(SchedulerSilentError):
                    self.watch()
                time.sleep(0.2)
            event = self.random.choice(events)
            self.happened[event.__name__] += 1
            event()

    def complete(self) -> None:
        """The same line again whenever nothing is left to run, until all is done."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            while self.cluster.run("squeue", "--noheader").stdout:
                self.watch()
                time.sleep(0.5)
                if time.monotonic() > deadline:
                    raise SandboxError(f"not done after {PATIENCE_S:.0f} s: {self.cluster.run('squeue').stdout}")
            if len(list(self.root.glob("stages/*/done.json"))) == 6:
                return
            self.type()

    def made(self) -> Mapping[str, Any]:
        return {name: made(folder_of(self.root, "chaos", name)) for name in plan_of(self.root, "chaos")}

    def early(self) -> list[str]:
        """Stages with an attempt that began before its parents were done."""
        plan = plan_of(self.root, "chaos")
        found = []
        for name, one in plan.items():
            parents = [reference["stage"] for ones in one["inputs"].values() for reference in ones]
            done_ms = [read_json(folder_of(self.root, "chaos", parent).done)["completed_at_ms"] for parent in parents]
            begun_ms = [attempt["started_at_ms"] for attempt in attempts(folder_of(self.root, "chaos", name))]
            found += [name] if min(begun_ms) < max(done_ms, default=0) else []
        return found

    def causes(self) -> Counter[str]:
        return Counter(read_json(path)["cause"] for path in self.root.glob("batches/*/settled/*.json"))


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def calm(bench: Bench) -> Mapping[str, Any]:
    """What the chain makes when nothing happens."""
    run = Chaos(bench, bench.cluster(), write_chain(bench.place("sweep")), 0)
    run.type()
    run.complete()
    return run.made()


def schedules(bench: Bench) -> Iterator[Row]:
    """Random schedules of everything that can happen."""
    expected, sweep = bench.kept(calm), write_chain(bench.place("sweep"))
    happened: Counter[str] = Counter()
    causes: Counter[str] = Counter()
    wrong: list[str] = []
    lines = 0
    for seed in range(SCHEDULES):
        run = Chaos(bench, bench.cluster(), sweep, seed)
        try:
            run.type()
            run.throw()
            run.complete()
            if run.made() != expected or run.early():
                wrong.append(f"{seed}: {'started early' if run.early() else 'differs'}")
        except (AssertionError, SandboxError) as error:
            wrong.append(f"{seed}: {str(error)[:300]}")
        happened += run.happened
        causes += run.causes()
        lines += len(run.codes)
    yield Row(
        what=f"{SCHEDULES} random schedules ({', '.join(f'{number} {name}' for name, number in happened.items())})",
        value=f"{SCHEDULES - len(wrong)} complete and bit-equal, {lines} lines, {dict(causes)}"
        + "; ".join(["", *wrong]),
        bar="all complete, bit-equal, no child early",
        ok=not wrong,
    )


def laggy(bench: Bench) -> Iterator[Row]:
    """The same once where each node sees the others' new names 30 s late."""
    expected = bench.kept(calm)
    notes = bench.place("notes")
    shim = str(CHECKOUT / "tests" / "slurm" / "laggy")
    late = {"PYTHONPATH": shim, "LAGGY_ROOT": "ROOT", "LAGGY_NOTES": str(notes), "LAGGY_S": "30"}
    run = Chaos(bench, bench.cluster(), write_chain(bench.place("sweep")), 7, **late)
    run.type("store.visibility_s=45")
    run.throw()
    run.complete()
    causes = run.causes()
    equal = run.made() == expected
    yield Row(
        what=f"new names 30 s late on other nodes, with {sum(run.happened.values())} misfortunes",
        value=f"{'bit-equal' if equal else 'DIFFERS'}, {len(run.early())} early, {dict(causes)}",
        bar="bit-equal, none refused, none early",
        ok=equal and not run.early() and not causes.keys() & {"refused", "bad_input", "exception"},
    )
