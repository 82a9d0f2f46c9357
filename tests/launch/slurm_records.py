"""What a stage leaves behind that ran on Slurm, written by hand, and a queue that answers what it is told."""

import json
import os
import time
from pathlib import Path

from launch.batches import create_batch, mark_ended, record_job
from launch.running.claims import attempt_path, now_ms
from launch.running.elements import element
from launch.slurm.scheduler import QueuedElement, SchedulerSilentError
from vssl.artifacts import read_json, write_json

ELSEWHERE = {"host": "n1", "pid": 1, "pid_started": 1, "boot_id": "another", "pid_namespace": "pid:[1]"}


class Queue:
    """Slurm's commands, as far as the verbs use them."""

    def __init__(self, *entries, books=(), silent=""):
        self.entries = list(entries)
        self.books = list(books)
        self.silent = silent
        self.reads = self.writes = self.asked_for_books = 0
        self.cancelled = []
        self.started = []

    def queue(self):
        self.reads += 1
        if self.silent:
            raise SchedulerSilentError(self.silent)
        return list(self.entries)

    def accounting(self, array_ids, since_s):
        self.asked_for_books += 1
        return [row for row in self.books if row["JobID"].partition("_")[0] in array_ids]

    def cancel(self, jobs):
        self.writes += len(jobs)
        self.cancelled += jobs

    def start_now(self, job):
        self.writes += 1
        self.started.append(job)


def queued(job, state="PENDING", batch=None, **more):
    """A line of squeue."""
    array, _, index = job.partition("_")
    facts = {"reason": "None", "start_s": None, "end_s": None, "restarts": 0, "nodes": "", "partition": "cpu"}
    name = "vssl-unknown" if batch is None else f"vssl-{batch.name}"
    return QueuedElement(
        job=job, array=array, index=int(index), name=name, state=state, **{**facts, "dependency": "", **more}
    )


def send(store, plan, names, job_id="100", ended=False, ago_s=60.0):
    """A batch of these stages, as a submission leaves it: indices from 0."""
    pipeline = store.pipeline(plan).name
    elements = {index: element(plan[name], plan, pipeline) for index, name in enumerate(names)}
    folder = create_batch(store, elements, {"ranks": 1, "resources": {}, "dependency": "", "snapshot": "code/x"})
    if job_id is not None:
        record_job(folder, job_id, released=True)
        write_json(folder / "job.json", {**read_json(folder / "job.json"), "at_ms": now_ms() - round(1000 * ago_s)})
    if ended:
        mark_ended(folder)
    record = json.loads((folder / "elements.json").read_text())
    record["slurm"]["created_at_ms"] -= round(1000 * ago_s)
    (folder / "elements.json").write_text(json.dumps(record))
    return folder


def attempt(store, plan, name, batch=None, job="", restart=0, token=1, ago_s=50.0, process=ELSEWHERE, **outcome):
    """An attempt at a stage: of a Slurm job where `job` says so."""
    folder = store.stage(plan[name].folder)
    folder.attempts.mkdir(parents=True, exist_ok=True)
    folder.logs.mkdir(exist_ok=True)
    folder.checkpoints.mkdir(exist_ok=True)
    record = {
        "token": token,
        "nonce": f"{job}.{restart}",
        "process": process,
        "started_at_ms": now_ms() - round(1000 * ago_s),
        "name": name,
        "pipeline": store.pipeline(plan).name,
        "batch": "" if batch is None else batch.name,
        "ranks": plan[name].resources.ranks,
        "code": "0" * 64,
        **outcome,
    }
    if job:
        record["slurm"] = {"job": job, "restart": restart}
    write_json(attempt_path(folder, token), record)
    return folder


def settle(batch, index, cause, restart=0, error="", decision="end", exit_code=1, ago_s=10.0):
    """The last word of a batch script."""
    record = {"cause": cause, "error": error, "rc": exit_code, "decision": decision, "exit_code": exit_code}
    write_json(
        batch / "settled" / f"{index}.{restart}.json", {**record, "at_ms": now_ms() - round(1000 * ago_s), "slurm": {}}
    )


def finish(store, plan, name, pipeline=None, **more):
    """The completion record of a probe whose parents are finished."""
    stage = plan[name]
    inputs = {
        role: [{"id": one.id, "digest": "a" * 64, "type": one.type, "origin": plan[one.stage].folder} for one in ones]
        for role, ones in stage.inputs.items()
    }
    folder = store.stage(stage.folder)
    folder.root.mkdir(parents=True, exist_ok=True)
    write_json(
        folder.done,
        {"metrics": {}, "artifacts": {"state": {"type": "state", "digest": "a" * 64}}, "inputs": inputs, "wall_s": 9.0,
         "attempts": 1, "pipeline": pipeline or store.pipeline(plan).name, "code": "0" * 64, "earlier_code": [],
         "started_at_ms": now_ms() - 9000, "completed_at_ms": now_ms(), "journal_bytes": 0, **more},
    )  # fmt: skip
    return folder


def age(path: Path, ago_s: float) -> None:
    """Make a file, or a folder and all in it, look as old as that."""
    moment = time.time() - ago_s
    for one in (path, *path.rglob("*")):
        if not one.is_symlink():
            os.utime(one, (moment, moment))
