"""Lets requeued jobs start at once. Slurm makes a job wait two minutes after a requeue, and the job cannot change that
itself: the begin time is set again when its last process is gone. Any other process of its owner can.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from launch.running.batch_folder import BatchFolder
from launch.running.claims import now_ms, server_now_s
from launch.store import Store
from vssl.artifacts import read_json, write_json
from vssl.config import ConfigError

if TYPE_CHECKING:
    from launch.slurm.scheduler import QueuedElement, Scheduler

LOOK_EVERY_S = 2.0  # all helpers of a store together, while a job is on its way back into the queue
CLEARED_S = 10.0  # after which a job that still waits for its begin time is helped once more
_NO_REASON = ("None", "")
FORGET_S = 600.0  # a job that was never requeued after all
_LOOKED = ".looked"


def mark_requeued(store: Store, job: str, restart: int) -> Path:
    """Ask others to clear a job's begin time once it is queued again. Written before the requeue ends the script."""
    store.requeued.mkdir(exist_ok=True)
    path = store.requeued / f"{job}.json"
    write_json(path, {"restart": restart, "at_ms": now_ms()})
    return path


def clear_begin_times(
    store: Store, scheduler: "Scheduler", queue: "Sequence[QueuedElement] | None" = None
) -> list[str]:
    """Start the requeued jobs of a store that wait for nothing but their begin time.

    Costs a listing of one folder while there is none; else one squeue and one update per job, however many processes
    help at the same time.

    Args:
        store: where the markers lie.
        scheduler: Slurm.
        queue: what squeue just said; None: it is asked.

    Returns:
        The jobs whose begin time was cleared.
    """
    from launch.slurm.scheduler import SchedulerRefusedError, SchedulerSilentError

    if queue is not None:
        _mark_restarted(store, queue)
    markers = _markers(store)
    if not markers or (queue is None and not _is_our_turn(store)):
        return []
    try:
        entries = {entry.job: entry for entry in (scheduler.queue() if queue is None else queue)}
    except (SchedulerSilentError, SchedulerRefusedError, ConfigError):
        return []
    started = []
    for path in markers:
        entry = entries.get(path.stem)
        if entry is not None and entry.state == "PENDING" and entry.reason in _NO_REASON:
            continue  # just back, and Slurm has not looked at it yet
        if entry is not None and entry.state == "PENDING" and entry.reason == "BeginTime":
            if _was_cleared(path):
                continue
            with suppress(SchedulerSilentError, SchedulerRefusedError):  # the next look tries again
                scheduler.start_now(path.stem)
                started.append(path.stem)
                write_json(path, {**(read_json(path) or {}), "cleared_at_ms": now_ms()})
        elif _is_over(path, entry):
            path.unlink(missing_ok=True)
    return started


def _mark_restarted(store: Store, queue: "Sequence[QueuedElement]") -> None:
    """Mark the jobs of this store that Slurm itself has requeued, as after the end of their node: settle could not.

    Where settle has left a verdict, it has also decided whether the job is to start at once.
    """
    for entry in queue:
        if entry.state == "PENDING" and entry.reason == "BeginTime" and entry.restarts:
            batch = store.batches / entry.name.partition("-")[2]
            settled = BatchFolder(batch).verdict(entry.index, entry.restarts - 1)
            if batch.is_dir() and not settled.exists() and not (store.requeued / f"{entry.job}.json").exists():
                with suppress(OSError):  # a store that cannot be written is no reason to say nothing
                    mark_requeued(store, entry.job, entry.restarts - 1)


def helper(store: Store) -> Callable[[], object]:
    """What a running job does now and then for the others."""

    def help_others() -> None:
        if _markers(store):
            from launch.slurm.scheduler import Scheduler

            clear_begin_times(store, Scheduler())

    return help_others


def _was_cleared(path: Path) -> bool:
    """Whether somebody has just brought the begin time forward, by seconds: done again and again, it would never come.

    The marker stays, since Slurm sets the time again if the job's last process ends after that.
    """
    cleared_ms = (read_json(path) or {}).get("cleared_at_ms", 0)
    return time.time() - int(cleared_ms) / 1000 < CLEARED_S


def _markers(store: Store) -> list[Path]:
    try:
        names = [entry.name for entry in os.scandir(store.requeued)]
    except FileNotFoundError:
        return []
    return [store.requeued / name for name in sorted(names) if name.endswith(".json") and not name.startswith(".")]


def _is_our_turn(store: Store) -> bool:
    """Whether no other helper has looked just now; then this one has."""
    looked = store.requeued / _LOOKED
    try:
        age_s = server_now_s(store.requeued) - looked.stat().st_mtime
    except FileNotFoundError:
        age_s = LOOK_EVERY_S
    if age_s < LOOK_EVERY_S:
        return False
    looked.touch()
    return True


def _is_over(path: Path, entry: "QueuedElement | None") -> bool:
    """Whether a job has started again, waits for something else, or will not come back."""
    marker = read_json(path)
    if marker is None:
        return False
    age_s = time.time() - int(marker["at_ms"]) / 1000
    if entry is None:  # the marker is written while the job runs, so it is gone
        return age_s > LOOK_EVERY_S
    if entry.restarts > int(marker["restart"]):
        return entry.state != "COMPLETING"
    return age_s > FORGET_S
