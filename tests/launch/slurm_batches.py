"""Batches of probes as a submission leaves them, and a Slurm that says what a test wants it to say."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.batches import create_batch
from launch.plan import Plan, PlannedStage
from launch.running.allocation import Allocation
from launch.running.elements import element
from launch.slurm.scheduler import QueuedElement, SchedulerRefusedError, SchedulerSilentError
from launch.store import Store

ARRAY = "12"


def make_batch(
    store: Store, stages: Sequence[PlannedStage], *, ranks: int = 1, policy: Mapping[str, Any] | None = None
) -> Path:
    """The intent of one array: the first stage has index 1."""
    plan = Plan(sweep="probes", scale="smoke", stages=tuple(stages), datasets={})
    facts = {
        "ranks": ranks,
        "resources": {},
        "dependency": "",
        "snapshot": "",
        "python": sys.executable,
        "policy": dict(policy or {}),
        "launcher": {},
    }
    elements = {index: element(stage, plan, "pipeline") for index, stage in enumerate(stages, start=1)}
    return create_batch(store, elements, facts)


def allocation(index: int = 1, restart: int = 0, **changes: Any) -> Allocation:
    return Allocation(**{"job": f"{ARRAY}_{index}", "restart": restart, "hosts": "n1", "node": "n1", **changes})


def job_environment(rank: int = 0, ranks: int = 1, index: int = 1, restart: int = 0) -> dict[str, str]:
    """What a task of a job has in its environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "VSSL"))}
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "VSSL_LAUNCHED": "1",
        "SLURM_ARRAY_JOB_ID": ARRAY,
        "SLURM_ARRAY_TASK_ID": str(index),
        "SLURM_JOB_ID": ARRAY,
        "SLURM_RESTART_COUNT": str(restart),
        "SLURM_PROCID": str(rank),
        "SLURM_NTASKS": str(ranks),
        "SLURM_LOCALID": str(rank),
        "SLURM_JOB_NODELIST": "n1",
        "SLURMD_NODENAME": "n1",
        "SLURM_JOB_END_TIME": "99999999999",  # so that nobody asks Slurm
    }


def queued(job: str = f"{ARRAY}_1", **changes: Any) -> QueuedElement:
    array, _, index = job.partition("_")
    entry: dict[str, Any] = {
        "job": job,
        "array": array,
        "index": int(index),
        "name": "vssl-1",
        "state": "PENDING",
        "reason": "BeginTime",
        "start_s": None,
        "end_s": None,
        "restarts": 1,
        "nodes": "",
        "partition": "cpu",
        "dependency": "",
    }
    return QueuedElement(**{**entry, **changes})


class ScriptedSlurm:
    """Answers as told, and remembers what it was asked to do.

    Args:
        job: of `scontrol show job`.
        silent: how many questions stay without an answer.
        refuses: what it says to a requeue; "": it does it.
    """

    def __init__(self, job: Mapping[str, str] | None = None, *, silent: int = 0, refuses: str = "") -> None:
        running = {"JobState": "RUNNING", "Reason": "None", "Restarts": "0", "PreemptTime": "None", "EndTime": "None"}
        self.job = running | dict(job or {})
        self.silent = silent
        self.refuses = refuses
        self.entries: list[QueuedElement] = []
        self.rows: list[dict[str, str]] = []
        self.requeued: list[str] = []
        self.started: list[str] = []
        self.reads = 0
        self.does_and_is_silent = False

    def _answer(self) -> None:
        if self.silent > 0:
            self.silent -= 1
            raise SchedulerSilentError("no answer")

    def show_job(self, job: str) -> dict[str, str]:
        self.reads += 1
        self._answer()
        return dict(self.job)

    def queue(self) -> list[QueuedElement]:
        self.reads += 1
        self._answer()
        return self.entries

    def accounting(self, array_ids: Sequence[str], since_s: float) -> list[dict[str, str]]:
        return self.rows

    def requeue(self, job: str) -> None:
        self._answer()
        if self.refuses:
            raise SchedulerRefusedError("scontrol requeue", self.refuses)
        self.requeued.append(job)
        if self.does_and_is_silent:
            self.job["Restarts"] = str(int(self.job["Restarts"]) + 1)
            raise SchedulerSilentError("the answer was lost")

    def start_now(self, job: str) -> None:
        self._answer()
        self.started.append(job)
