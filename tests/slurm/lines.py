"""Lines of probes that are typed against a sandbox, and what Slurm's queue and books say of them afterwards."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launch.batches import in_flight, open_batches, queued_batches
from launch.executors.slurm import execute
from launch.plan import Plan, PlannedStage, Resources
from launch.running.elements import read_element
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import QueuedElement, Scheduler
from launch.store import Store
from tests.launch.conftest import planned
from tests.slurm.daemons import wait_until
from tests.slurm.sandbox import Sandbox
from vssl.artifacts import read_json

SMALL = Resources(cpus_per_task=1, mem_gb=1, timeout_min=10)
# Jobs that wait for longer than any test: what is in the queue can be looked at in peace.
LATER = Profile(name="later", parameters={"additional_parameters": {"begin": "now+1hour"}})
NOW = Profile(name="now")


def lanes(number: int, *templates: str, **config: Any) -> Plan:
    """A plan of lanes, each a chain of the templates; `config` is that of every probe."""
    stages: list[PlannedStage] = []
    for template in templates or ("first", "second"):
        for lane in range(number):
            parents = [stage for stage in stages if stage.lane == lane][-1:]
            stage = planned(f"{template}.{lane}", parents, seed=lane, **config)
            stages.append(replace(stage, template=template, element=template, lane=lane, resources=SMALL))
    return Plan(sweep="probes", scale="smoke", stages=tuple(stages), datasets={})


@dataclass(kw_only=True)
class Line:
    """One line, and everything that it leads to.

    The environment of this process must lead Slurm's commands to the sandbox.
    """

    sandbox: Sandbox
    plan: Plan
    root: Path
    scheduler: Scheduler = field(default_factory=Scheduler)

    @property
    def store(self) -> Store:
        return Store(self.root, visibility_s=2.0)

    def type(self, *names: str, profile: Profile = NOW, **options: Any) -> int:
        chosen: Sequence[str] = names or tuple(self.plan.by_name)
        return execute(self.plan, chosen, self.store, profile=profile, scheduler=self.scheduler, **options)

    def queue(self) -> list[QueuedElement]:
        return self.scheduler.queue()

    def wait(self, what: str = "the end of all jobs", timeout_s: float = 180.0) -> None:
        wait_until(lambda: not self.sandbox.run("squeue", "--noheader").stdout, what, timeout_s)

    def done(self) -> set[str]:
        return set(self.store.reusable_stages(self.plan))

    def check_queue(self) -> None:
        """Each stage that is left is queued once, in a batch that knows it; nothing is held, nothing is nobody's."""
        queue = self.queue()
        batches = queued_batches(self.store, queue)
        assert {one.name for one in queue} == set(batches), "jobs without a batch"
        stages = Counter(batches[one.name].stage(one.index) for one in queue)
        assert stages == Counter(self.plan[name].folder for name in self.plan.by_name.keys() - self.done())
        assert not [one.job for one in queue if one.reason.startswith("JobHeld")]
        assert set(stages) == set(in_flight(self.store, queue))
        assert all(batch.released and not batch.void for batch in batches.values())
        assert {batch.name for batch in open_batches(self.store)} == set(batches)

    def starts(self) -> Counter[str]:
        """How often each stage was started by Slurm: one verdict for each start."""
        found: Counter[str] = Counter()
        for path in self.store.batches.glob("*/settled/*.json"):
            element, _ = read_element(path.parent.parent, int(path.name.partition(".")[0]))
            found[element.name] += 1
        return found

    def logs(self) -> str:
        """All that jobs have printed, for an assertion that fails."""
        paths = sorted(self.store.batches.glob("*/logs/*.log"))
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')}" for path in paths)


def edges(queue: Collection[QueuedElement]) -> dict[str, str]:
    """Job -> what it waits for, without Slurm's remarks."""
    return {one.job: re.sub(r"\(\w+\)", "", one.dependency) for one in queue}


def cancel_all(sandbox: Sandbox) -> None:
    sandbox.run("scancel", "--me")
    wait_until(lambda: not sandbox.run("squeue", "--noheader").stdout, "an empty queue")


def verdicts(store: Store) -> Counter[str]:
    """Cause -> how many starts ended by it."""
    return Counter(read_json(path)["cause"] for path in store.batches.glob("*/settled/*.json"))
