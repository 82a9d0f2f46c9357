"""`vssl cancel`: take what is queued or running of a pipeline out, and nothing that another live pipeline uses.

On Slurm a mark in each batch says first that a person did it, then one scancel names all jobs; what runs is asked to
save and stop, as by any other signal. On this machine the pipeline's own queue is asked, or the one stage.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launch.planning.selection import below
from launch.running.claims import is_live, newest, now_ms
from launch.running.local_queues import live_queues
from launch.running.processes import is_alive
from launch.slurm.queue_view import impatient, look
from launch.slurm.scheduler import SchedulerSilentError
from launch.verbs.targets import Target, pipelines
from vssl.artifacts import read_json, write_json

if TYPE_CHECKING:
    from launch.batches import InFlight
    from launch.slurm.scheduler import Scheduler
    from launch.store import Store


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """What was taken out and what was not; keys are names of stages."""

    pipeline: str
    jobs: Mapping[str, str]  # -> its Slurm job
    signalled: Sequence[str]  # what runs on this machine
    kept: Mapping[str, str]  # -> the live pipeline that uses it
    elsewhere: Mapping[str, str]  # -> the host that runs it, out of this one's reach

    def lines(self) -> list[str]:
        """For a person."""
        lines = [f"cancelled {name} (job {job})" for name, job in self.jobs.items()]
        lines += [f"asked {what} to save and stop" for what in self.signalled]
        lines += [f"kept {name}: {pipeline} uses it" for name, pipeline in self.kept.items()]
        lines += [f"{name} runs on {host}: type this there" for name, host in self.elsewhere.items()]
        return lines or [f"nothing of {self.pipeline} is queued or runs"]


def cancel(target: Target, scheduler: "Scheduler | None" = None) -> Cancelled:
    """Cancel the stages of a target, and what hangs below them.

    Raises:
        SchedulerSilentError: the controller does not answer; nothing was cancelled.
        ConfigError: nothing was found to cancel, but the queue holds jobs of this store whose records are gone.
    """
    plan, store, pipeline = target.plan, target.store, target.folder.name
    chosen = [stage for stage in plan if stage.name in below(plan, frozenset(target.stages))]
    view = look(store, {stage.folder for stage in plan}, pipeline, scheduler, tidy=False)
    if view.silent:
        raise SchedulerSilentError(view.silent)
    queued = {stage.name: view.queued[stage.folder] for stage in chosen if stage.folder in view.queued}
    kept = _used_elsewhere(queued, view.queued.values(), target)
    jobs = {name: place for name, place in queued.items() if name not in kept}
    try:
        if not target.selector:
            write_json(_mark(target.folder), {"at_ms": now_ms()})
        _mark_batches(jobs.values())
    except OSError as error:  # a full disk is a good reason to cancel, and must not stand in the way of it
        print(f"what was cancelled could not be written down: {error}", file=sys.stderr)
    if jobs:
        (scheduler or impatient()).cancel(_ids(jobs.values(), view.queued.values()))
    signalled, elsewhere = _signal(target, [stage.folder for stage in chosen])
    if not (jobs or kept or signalled or elsewhere):
        _refuse_unrecorded(store, scheduler)
    return Cancelled(
        pipeline=pipeline,
        jobs={name: place.entry.job for name, place in jobs.items()},
        signalled=signalled,
        kept=kept,
        elsewhere={stage.name: elsewhere[stage.folder] for stage in chosen if stage.folder in elsewhere},
    )


def _refuse_unrecorded(store: "Store", scheduler: "Scheduler | None") -> None:
    """Not to say that nothing is queued where somebody has removed the records of what is."""
    if scheduler is None and shutil.which("squeue") is None:
        return
    from launch.slurm.recovery import refuse_unrecorded

    refuse_unrecorded(store, (scheduler or impatient()).queue())


def _ids(chosen: Iterable["InFlight"], queued: Iterable["InFlight"]) -> list[str]:
    """What scancel is told: the array where all that is left of it goes, else its elements."""
    by_array: dict[str, list[str]] = {}
    for one in chosen:
        by_array.setdefault(one.entry.array, []).append(one.entry.job)
    left: dict[str, int] = {}
    for one in queued:
        left[one.entry.array] = left.get(one.entry.array, 0) + 1
    return [job for array, jobs in by_array.items() for job in ([array] if len(jobs) == left[array] else jobs)]


def _mark_batches(chosen: Iterable["InFlight"]) -> None:
    """Write down that a person took these elements out, before Slurm does: their scripts and `status` read it."""
    by_batch: dict[Path, list[int]] = {}
    for one in chosen:
        by_batch.setdefault(one.batch.folder, []).append(one.entry.index)
    for folder, indices in by_batch.items():
        marks = read_json(folder / "cancelled.json") or {}
        write_json(folder / "cancelled.json", {**marks, **{str(index): now_ms() for index in indices}})


def _used_elsewhere(
    queued: Mapping[str, "InFlight"], in_flight: Iterable["InFlight"], target: Target
) -> dict[str, str]:
    """The stages that another live pipeline uses, too -> that pipeline.

    One is live while it was not cancelled since its last submission, and it has a stage of its own in the queue, or
    was submitted when the stage in question already was: it then counts on it.
    """
    submitters = {one.batch.elements[one.entry.index]["pipeline"] for one in in_flight}
    found: dict[str, str] = {}
    for folder in pipelines(target.store.root) if queued else ():
        if folder == target.folder or _is_cancelled(folder):
            continue
        text = (folder / "plan.json").read_text()
        submitted_s = (folder / "plan.json").stat().st_mtime
        for name, one in queued.items():
            if target.plan[name].stage_id in text and (
                folder.name in submitters or submitted_s > (one.batch.folder / "elements.json").stat().st_mtime
            ):
                found.setdefault(name, folder.name)
    return found


def _is_cancelled(pipeline: Path) -> bool:
    with suppress(FileNotFoundError):
        return _mark(pipeline).stat().st_mtime >= (pipeline / "plan.json").stat().st_mtime
    return False


def _mark(pipeline: Path) -> Path:
    return pipeline / "cancelled.json"


def _signal(target: Target, folders: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Ask what runs without Slurm to save and stop; what was asked, and stage folder -> host of what was not."""
    asked, elsewhere = [], {}
    if not target.selector:
        for process in live_queues(target.store, target.folder.name):
            if _terminate(process["pid"]):
                asked.append(f"the queue in process {process['pid']}")
    for name in folders:
        folder = target.store.stage(name)
        last = newest(folder)
        if last is None or last.get("slurm") or last.get("pipeline") != target.folder.name:
            continue
        if not is_live(last, folder, time.time()):
            continue
        if is_alive(last["process"]) is None:
            elsewhere[name] = str(last["process"]["host"])
        elif target.selector and _terminate(last["process"]["pid"]):
            asked.append(str(last["name"]))
    return asked, elsewhere


def _terminate(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        return False
    return True
