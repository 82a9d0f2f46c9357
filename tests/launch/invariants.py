"""What must hold of a pipeline at every instant: one writer of a stage, parents before children, whole records."""

import json
from pathlib import Path
from typing import cast

from launch.plan import Plan
from launch.slurm.queue_view import look
from launch.slurm.scheduler import Scheduler
from launch.status import plan_status
from launch.store import Store
from tests.launch.cluster import Cluster, Start
from tests.launch.fake_slurm import Job
from tests.launch.turns import Process
from vssl.artifacts import read_json


class Invariants:
    """Looks on at every start, command and write of a cluster."""

    def __init__(self, cluster: Cluster, plan: Plan, store: Store) -> None:
        self.cluster, self.plan, self.store = cluster, plan, store
        self.completed: set[str] = set()  # folders of stages
        self._owners: dict[str, Start] = {}  # stage folder -> the start that claimed it last
        self._stages = f"{store.stage('').root}/"
        cluster.on_start = self._check_start
        cluster.wire.on_command = self._check_command
        cluster.world.on_write = self._check_write

    def check_status(self) -> None:
        """What any verb would say at this instant."""
        scheduler, pipeline = cast(Scheduler, self.cluster.slurm), self.store.pipeline(self.plan).name
        view = look(self.store, [stage.folder for stage in self.plan], pipeline, scheduler, tidy=False)
        for one in plan_status(self.plan, self.store, view):
            start = self._owners.get(Path(one.folder).name)
            if start is not None and start.is_at_work:
                assert one.state in ("running", "done"), f"{one.name} is {one.state} while {start.job.id} runs"

    def _check_start(self, job: Job) -> None:
        others = [one for one in self.cluster.slurm.jobs.values() if one is not job and self._may_work(one)]
        assert _stage_of(job) not in map(_stage_of, others), f"{job.id} does the work of another job"

    def _may_work(self, job: Job) -> bool:
        """Whether an element could still run its stage; one whose rank has ended is only tidied up."""
        rank = self.cluster.starts[job.id].rank if job.state == "RUNNING" else None
        return job.state in ("PENDING", "RUNNING") and not job.held and (rank is None or not rank.is_over)

    def _check_command(self, name: str) -> None:
        start = self.cluster.start_of(self.cluster.world.current)
        if name == "requeue" and start is not None:
            succeeded = start.job.state == "RUNNING" and start.job.restarts != start.restart
            assert not succeeded, f"{start.job.id}.{start.restart} requeued its own next start"

    def _check_write(self, process: Process, operation: str, path: Path) -> None:
        if path.suffix == ".json" and operation in ("replace", "link"):
            json.loads(path.read_text())
        if operation not in ("rename", "link") or not str(path).startswith(self._stages):
            return
        name, *inner = path.relative_to(self._stages).parts
        if operation == "rename" and not inner:
            self.completed.discard(name.partition("~")[0])
        elif inner[0] == "attempts":
            self._check_claim(name, self.cluster.start_of(process))
        elif inner == ["done.json"]:
            assert name not in self.completed, f"{name} was completed twice"
            self.completed.add(name)

    def _check_claim(self, name: str, start: Start | None) -> None:
        assert start is not None
        before = self._owners.get(name)
        self._owners[name] = start
        if before is not None and before is not start:
            assert not before.is_at_work, f"{name} is written by {before.job.id} and {start.job.id}"
        stage = next(stage for stage in self.plan if stage.folder == name)
        for parent in stage.parents:
            assert read_json(self.store.stage(self.plan[parent].folder).done) is not None, f"{name} before {parent}"


def _stage_of(job: Job) -> str:
    element = read_json(job.batch / "elements.json")["elements"][str(job.index)]
    return f"{element['kind']}-{element['stage_id']}"
