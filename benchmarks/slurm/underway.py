"""A pipeline that runs on a cluster while things are done to it."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.slurm.figures import Bench
from launch.batches import in_flight
from launch.plan import Plan, PlannedStage
from launch.running.causes import Policy
from launch.running.claims import newest
from launch.slurm.begin_time import clear_begin_times
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import QueuedElement, Scheduler
from tests.launch.conftest import planned
from tests.slurm.daemons import wait_until
from tests.slurm.lines import Line
from tests.slurm.sandbox import Sandbox
from vssl.artifacts import StageFolder, read_json
from vssl.run import read_journal

POLICY = Policy(signal_delay_s=15)


def stage(
    name: str, parents: Sequence[PlannedStage] = (), *, ranks: int = 1, nodes: int = 1, **config: Any
) -> PlannedStage:
    """A probe of one core and as many ranks a node."""
    resources = {"nodes": nodes, "tasks_per_node": ranks, "mem_gb": 1, "timeout_min": 10}
    return planned(name, parents, resources=resources, **config)


class UnderWay:
    """Submits a plan in this process, and acts as a person with `vssl watch` open does.

    Args:
        bench: for the store.
        cluster: where it runs.
        stages: the plan.
        policy: of the site's profile.
    """

    def __init__(self, bench: Bench, cluster: Sandbox, *stages: PlannedStage, policy: Policy = POLICY) -> None:
        self.cluster = cluster
        self.plan = Plan(sweep="figures", scale="smoke", stages=tuple(stages), datasets={})
        self.line = Line(sandbox=cluster, plan=self.plan, root=bench.place("store"))
        self.profile = Profile(name="figures", policy=policy)
        self.scheduler = Scheduler()

    def submit(self) -> None:
        assert self.line.type(profile=self.profile) == 0

    @property
    def root(self) -> Path:
        return self.line.root

    def folder(self, name: str) -> StageFolder:
        return self.line.store.stage(self.plan[name].folder)

    def attempt(self, name: str) -> Mapping[str, Any]:
        """The newest attempt of a stage; nothing before the first one."""
        return newest(self.folder(name)) or {}

    def watch(self) -> None:
        """One look of somebody who watches: jobs that wait for their begin time are started."""
        clear_begin_times(self.line.store, self.scheduler)

    def until(self, question: Callable[[], Any], what: str, timeout_s: float = 90.0) -> Any:
        """Watch until something is so."""
        found: list[Any] = []

        def asked() -> bool:
            self.watch()
            found[:] = [question()]
            return bool(found[0])

        wait_until(asked, what, timeout_s)
        return found[0]

    def entry(self, name: str) -> QueuedElement | None:
        """The stage's place in the queue."""
        one = in_flight(self.line.store, self.scheduler.queue()).get(self.plan[name].folder)
        return None if one is None else one.entry

    def runs(self, name: str, restart: int = 0, steps: int = 1) -> QueuedElement:
        """Wait until a start of a stage has made some steps of its own; its place in the queue."""

        def has_begun() -> QueuedElement | None:
            last = self.attempt(name)
            if not last or last["slurm"]["restart"] < restart or "outcome" in last:
                return None
            rows = read_journal(self.folder(name).journal)
            own = sum(row["time_ms"] >= last["started_at_ms"] for row in rows)
            return self.entry(name) if own >= steps else None

        entry: QueuedElement = self.until(has_begun, f"start {restart} of {name}: {self.line.logs()[-3000:]}")
        return entry

    def verdicts(self, name: str) -> list[Mapping[str, Any]]:
        """What the batch scripts said of each start of a stage, in order."""
        found = []
        for batch in self.line.store.batches.iterdir():
            record = read_json(batch / "elements.json")
            for index, element in record["elements"].items():
                if f"{element['kind']}-{element['stage_id']}" == self.plan[name].folder:
                    paths = sorted(
                        (batch / "settled").glob(f"{index}.*.json"), key=lambda path: int(path.suffixes[0][1:])
                    )
                    found += [(record["slurm"]["created_at_ms"], read_json(path)) for path in paths]
        return [verdict for _, verdict in sorted(found, key=lambda item: item[0])]

    def settled(self, name: str, number: int = 0, timeout_s: float = 120.0) -> Mapping[str, Any]:
        """Wait for a verdict on a start, by its number."""
        found: Mapping[str, Any] = self.until(
            lambda: self.verdicts(name)[number:] and self.verdicts(name)[number],
            f"verdict {number} on {name}",
            timeout_s,
        )
        return found

    def preempt(self, nodes: str) -> None:
        """An urgent job that needs whole nodes, and is over at once."""
        words = ("--partition=high", f"--nodelist={nodes}", "--exclusive", "--job-name=urgent", "--wrap=true")
        self.cluster.submit(*words, "--output=/dev/null")

    def limit_to_a_minute(self, job: str) -> None:
        """Of which Slurm warns a minute early, so at once."""
        self.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=1")

    def is_empty(self) -> bool:
        return not self.cluster.run("squeue", "--noheader").stdout

    def finish(self, timeout_s: float = 300.0) -> None:
        """Watch to the end of all jobs, and see that all is done."""
        self.until(self.is_empty, "the end of all jobs", timeout_s)
        missing = self.plan.by_name.keys() - self.line.done()
        assert not missing, f"{', '.join(missing)} not done: {self.line.logs()[-3000:]}"


def made(folder: StageFolder) -> tuple[str, list[tuple[int, Any]]]:
    """What must not depend on what happened on the way: the artifact's digest, and the journal without its times."""
    done = read_json(folder.done)
    assert done is not None, f"{folder.root} is not done"
    return done["artifacts"]["state"]["digest"], [(row["step"], row["values"]) for row in read_journal(folder.journal)]


def seconds_since(at_ms: float) -> float:
    return time.time() - at_ms / 1000
