"""What an earlier launcher left behind in Slurm's queue, whatever moment it died at.

A batch that is still held was never released, so nothing of it has ever run: it is cancelled and given up, and its
stages are sent anew, with the dependencies that are right now. It is not released instead: while a job is held, Slurm
does not notice that its parent has failed, and once it has forgotten the parent, the child would run.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from launch.batches import mark_ended, mark_void, open_batches, queued_batches, record_job
from launch.slurm.scheduler import QueuedElement, Scheduler
from launch.store import Store
from vssl.config import ConfigError

STUCK = "DependencyNeverSatisfied"
CLOCKS_S = 60.0  # by which this machine's clock and the controller's may differ


def recover(
    store: Store, scheduler: Scheduler, queue: Sequence[QueuedElement], may_write: Callable[[], None]
) -> list[QueuedElement]:
    """Bring the batches of a store and the queue into agreement.

    Call it while no other launcher submits: then a batch that is not released belongs to one that is gone.

    Args:
        queue: what squeue just said.
        may_write: called before the queue is changed; raises if this launcher may not.

    Returns:
        What of the queue stays.

    Raises:
        ConfigError: the record of a queued batch is gone.
    """
    _await_records(store, queue)
    cluster = scheduler.config().get("ClusterName", "")
    by_name: dict[str, list[QueuedElement]] = {}
    for entry in queue:
        by_name.setdefault(entry.name, []).append(entry)
    ours = queued_batches(store, queue)
    given_up = [
        batch
        for name, batch in ours.items()
        if (batch.void or not batch.released) and all(map(_is_held, by_name[name]))
    ]
    arrays = {entry.array for batch in given_up for entry in by_name[batch.name]}
    stuck = [one.job for one in queue if one.name in ours and one.state == "PENDING" and one.reason == STUCK]
    cancelled = [*sorted(arrays, key=int), *stuck]
    if cancelled:
        may_write()
        scheduler.cancel(cancelled)
    with store.writing():
        for batch in given_up:
            mark_void(batch.folder, "its launcher ended before it was released")
        for batch in open_batches(store):
            entries = by_name.get(batch.name)
            if batch.slurm.get("cluster", cluster) != cluster:
                continue  # this queue knows nothing of it
            if not entries and batch.job_id is None:
                mark_void(batch.folder, "its launcher ended before Slurm took it")
            elif not entries:
                mark_ended(batch.folder)
            elif not batch.released:
                record_job(batch.folder, entries[0].array, released=True)
    return [entry for entry in queue if entry.array not in arrays and entry.job not in stuck]


def _await_records(store: Store, queue: Sequence[QueuedElement]) -> None:
    """Wait for the records of batches that another machine has just made, and that are queued from this store."""
    unknown = unrecorded(store, queue)
    if not unknown:
        return
    # A record is written before its job is submitted, so that of an old job would have come into sight long ago.
    oldest_s = min(entry.submitted_s or time.time() for entry in unknown)
    if time.time() - oldest_s < store.visibility_s + CLOCKS_S:
        store.appears(*(Path(entry.folder) / "elements.json" for entry in unknown))
    refuse_unrecorded(store, queue)


def unrecorded(store: Store, queue: Sequence[QueuedElement]) -> list[QueuedElement]:
    """What was queued from this store, and of which it has no record."""
    folders = {Path(entry.folder) for entry in queue if entry.folder}
    place = store.batches.resolve()
    lost = {str(one) for one in folders if one.parent == place and not (one / "elements.json").is_file()}
    return [entry for entry in queue if entry.folder in lost]


def refuse_unrecorded(store: Store, queue: Sequence[QueuedElement]) -> None:
    """Refuse to go on while jobs are queued that nobody can tell anything of.

    Raises:
        ConfigError: there are some; all of them are named.
    """
    unknown = unrecorded(store, queue)
    if not unknown:
        return
    jobs = " ".join(sorted({entry.array for entry in unknown}, key=int))
    folders = sorted({entry.folder for entry in unknown})
    more = f" and {len(folders) - 1} more" if len(folders) > 1 else ""
    raise ConfigError(
        f"the queue holds jobs of this store whose records are gone ({folders[0]}{more}), so nobody knows what they "
        f"are: bring them back, or `scancel {jobs}`"
    )


def _is_held(entry: QueuedElement) -> bool:
    return entry.state == "PENDING" and entry.reason.startswith("JobHeld")
