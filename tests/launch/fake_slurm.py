"""A small Slurm in memory, with a clock instead of waiting: a drop-in for `launch.slurm.scheduler.Scheduler`.

It keeps what was measured on the real one and matters to the launcher: held arrays, sparse indices, `afterok`,
`aftercorr`, kill-on-invalid-dep, ended jobs that are forgotten after MinJobAge so that their children run, requeues
that keep the id and wait, and the limits on arrays and on submitted jobs. What an element does, and what happens to
it, is decided by the test.
"""

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.slurm.scheduler import QueuedElement, SchedulerRefusedError

REQUEUE_DELAY_S = 121.0
COMPLETING_S = 1.0
LONGEST_INDICES = 4096
ALIVE = ("PENDING", "RUNNING", "COMPLETING")
Edge = tuple[str, int, int | None]  # type, array, index


@dataclass(kw_only=True)
class Job:
    """One element of an array."""

    array: int
    index: int
    name: str
    batch: Path  # where its script was submitted
    dependency: tuple[Edge, ...]
    state: str = "PENDING"
    held: bool = True
    begin_s: float = 0.0
    start_s: float | None = None
    end_s: float = 0.0
    restarts: int = 0
    node: str = ""
    exit_code: int = 0

    @property
    def id(self) -> str:
        return f"{self.array}_{self.index}"

    @property
    def is_over(self) -> bool:
        return self.state not in ALIVE


class FakeSlurm:
    """One cluster with one user.

    Args:
        clock: the time in seconds.
        start: called with each element that starts to run.
        kill: called with each running element whose processes Slurm ends.
    """

    def __init__(self, clock: Callable[[], float], start: Callable[[Job], None], kill: Callable[[Job], None]) -> None:
        self.clock, self.start, self.kill = clock, start, kill
        self.jobs: dict[tuple[int, int], Job] = {}  # what it has not forgotten
        self.history: list[Job] = []  # what accounting knows of those that ended
        self.hosts = ["n1", "n2", "n3", "n4"]
        self.min_job_age_s = 300.0
        self.max_array_size = 1001
        self.max_submit: int | None = None
        self.has_accounting = True
        self.reads = self.writes = 0
        self._last_array = 0
        self._queued_total = 0
        self._submitting = threading.Lock()  # a launcher submits from several threads

    # What the launcher calls.

    def queue(self) -> list[QueuedElement]:
        self.reads += 1
        self.tick()
        alive = sorted((job for job in self.jobs.values() if not job.is_over), key=lambda job: (job.array, job.index))
        self._queued_total = len(alive)
        return [self._entry(job) for job in alive]

    def queued_total(self) -> int:
        return self._queued_total

    def submit(self, script: Path, cwd: Path) -> str:
        with self._submitting:
            return self._submit(script, cwd)

    def _submit(self, script: Path, cwd: Path) -> str:
        self.writes += 1
        self.tick()
        given = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script.read_text(), flags=re.MULTILINE))
        assert given["kill-on-invalid-dep"] == "yes"
        assert "requeue" in given
        indices = read_indices(given["array"])
        alive = sum(not job.is_over for job in self.jobs.values())
        if len(given["array"]) > LONGEST_INDICES or max(indices) >= self.max_array_size:
            raise SchedulerRefusedError("sbatch", "Batch job submission failed: Invalid job array specification")
        if self.max_submit is not None and alive + len(indices) > self.max_submit:
            raise SchedulerRefusedError("sbatch", "AssocMaxSubmitJobLimit: Job violates accounting/QOS policy")
        self._last_array += 1
        array, edges = self._last_array, _edges(given.get("dependency", ""))
        for index in indices:  # parents that it does not know, or no longer, are dropped without a word
            known = tuple(edge for edge in edges if self._parents(edge, index))
            self.jobs[array, index] = Job(array=array, index=index, name=given["job-name"], batch=cwd, dependency=known)
        return str(array)

    def test_only(self, script: Path, cwd: Path) -> str:
        self.reads += 1
        return ""

    def release(self, array_ids: Sequence[str]) -> None:
        self.writes += len(array_ids)
        for job in self._named(array_ids):
            job.held = False
        self.tick()

    def cancel(self, jobs: Sequence[str]) -> None:
        self.writes += len(jobs)
        for job in self._named(jobs):
            was_running = job.state == "RUNNING"
            self._end(job, "CANCELLED")
            if was_running:
                self.kill(job)
        self.tick()

    def requeue(self, job: str) -> None:
        self.writes += 1
        running = [one for one in self._named([job]) if one.state == "RUNNING"]
        if not running:
            raise SchedulerRefusedError("scontrol requeue", "Job is pending execution or gone")
        for one in running:
            self.start_anew(one)

    def start_now(self, job: str) -> None:
        self.writes += 1
        for one in self._named([job]):
            one.begin_s = 0.0
        self.tick()

    def show_job(self, job: str) -> dict[str, str]:
        self.reads += 1
        array, _, index = job.partition("_")
        one = self.jobs.get((int(array), int(index)))
        if one is None:
            return {}
        return {
            "JobId": str(one.array),
            "ArrayJobId": str(one.array),
            "ArrayTaskId": str(one.index),
            "JobState": one.state,
            "Reason": self._reason(one),
            "Restarts": str(one.restarts),
            "ExitCode": f"{one.exit_code}:0",
            "NodeList": one.node,
        }

    def accounting(self, array_ids: Iterable[str], since_s: float) -> list[dict[str, str]]:
        self.reads += 1
        known = [*self.history, *(job for job in self.jobs.values() if not job.is_over)]
        return [
            {"JobID": job.id, "JobName": job.name, "State": job.state, "ExitCode": f"{job.exit_code}:0"}
            for job in known
            if self.has_accounting and str(job.array) in set(array_ids)
        ]

    def config(self) -> dict[str, str]:
        sizes = {"MaxArraySize": str(self.max_array_size), "MinJobAge": f"{self.min_job_age_s:.0f} sec"}
        return {"ClusterName": "fake", **sizes}

    def partitions(self) -> dict[str, dict[str, str]]:
        self.reads += 1
        return {"cpu": {"PartitionName": "cpu", "Default": "YES", "MaxTime": "UNLIMITED", "State": "UP"}}

    def nodes(self) -> list[dict[str, str]]:
        self.reads += 1
        size = {"nodes": str(len(self.hosts)), "cpus": "16", "memory_mb": "64000", "gres": "(null)"}
        return [{"partition": "cpu", "features": "(null)", **size}]

    def submit_limit(self, account: str = "", qos: str = "") -> int | None:
        return self.max_submit

    # What happens by itself, or because the test wants it.

    def tick(self) -> None:
        """Look at every job, as Slurm does all the time."""
        now = self.clock()
        for key, job in list(self.jobs.items()):
            if job.state == "COMPLETING" and now - job.end_s >= COMPLETING_S:
                self._end(job, "FAILED" if job.exit_code else "COMPLETED")
            elif job.is_over and now - job.end_s >= self.min_job_age_s:
                del self.jobs[key]
        for job in list(self.jobs.values()):
            if job.state != "PENDING" or job.held:  # while held, not even a parent's failure is noticed
                continue
            parents = [parent for edge in job.dependency for parent in self._parents(edge, job.index)]
            if any(parent.is_over and parent.state != "COMPLETED" for parent in parents):
                self._end(job, "CANCELLED")
            elif all(parent.is_over for parent in parents) and job.begin_s <= now:
                busy = {other.node for other in self.jobs.values() if other.state in ("RUNNING", "COMPLETING")}
                if free := [node for node in self.hosts if node not in busy]:
                    job.state, job.node, job.start_s = "RUNNING", free[0], now
                    self.start(job)

    def finish(self, job: Job, exit_code: int) -> None:
        """Its script has ended by itself."""
        if job.state == "RUNNING":
            job.state, job.exit_code, job.end_s = "COMPLETING", exit_code, self.clock()

    def start_anew(self, job: Job) -> None:
        """Put a running one back into the queue: the same id, and it waits two minutes."""
        if job.state == "RUNNING":
            self.kill(job)
            job.state, job.node, job.restarts = "PENDING", "", job.restarts + 1
            job.begin_s = self.clock() + REQUEUE_DELAY_S

    def _end(self, job: Job, state: str) -> None:
        job.state, job.end_s = state, self.clock()
        self.history.append(job)

    def _parents(self, edge: Edge, index: int) -> list[Job]:
        """The jobs that an edge of an element means, of those that are not forgotten."""
        type_, array, named = edge
        meant = self.jobs.get((array, index if named is None else named))
        if meant is not None or type_ == "afterok":
            return [] if meant is None else [meant]
        return [job for job in self.jobs.values() if job.array == array]  # no counterpart: it waits for them all

    def _reason(self, job: Job) -> str:
        if job.state != "PENDING":
            return "None"
        if job.held:
            return "JobHeldUser"
        if job.begin_s > self.clock():
            return "BeginTime"
        waits = any(not parent.is_over for edge in job.dependency for parent in self._parents(edge, job.index))
        return "Dependency" if waits else "Resources"

    def _named(self, names: Sequence[str]) -> list[Job]:
        """Elements that are alive, by "<array>" or "<array>_<index>"."""
        return [job for job in self.jobs.values() if not job.is_over and {str(job.array), job.id} & set(names)]

    def _entry(self, job: Job) -> QueuedElement:
        edges = (f"{type_}:{array}_{'*' if index is None else index}" for type_, array, index in job.dependency)
        return QueuedElement(
            job=job.id,
            array=str(job.array),
            index=job.index,
            name=job.name,
            state=job.state,
            reason=self._reason(job),
            start_s=job.start_s,
            end_s=None,
            restarts=job.restarts,
            nodes=job.node,
            partition="cpu",
            dependency=",".join(f"{edge}(unfulfilled)" for edge in edges),
        )


def read_indices(text: str) -> list[int]:
    """The indices that an argument of `--array` means."""
    found: list[int] = []
    for term in text.partition("%")[0].split(","):
        ends, _, step = term.partition(":")
        first, _, last = ends.partition("-")
        found += range(int(first), int(last or first) + 1, int(step or 1))
    return found


def _edges(text: str) -> list[Edge]:
    found: list[Edge] = []
    for term in filter(None, text.split(",")):
        type_, *names = term.split(":")
        for name in names:
            array, _, index = name.partition("_")
            found.append((type_, int(array), int(index) if index else None))
    return found
