"""What an earlier launcher left behind in Slurm's queue, whatever moment it died at.

A batch that is still held was never released, so nothing of it has ever run: it is cancelled and given up, and its
stages are sent anew, with the dependencies that are right now. It is not released instead: while a job is held, Slurm
does not notice that its parent has failed, and once it has forgotten the parent, the child would run.
"""

from collections.abc import Callable, Sequence

from launch.batches import mark_ended, mark_void, open_batches, queued_batches, record_job
from launch.scheduler import QueuedElement, Scheduler
from launch.store import Store

STUCK = "DependencyNeverSatisfied"


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
    """
    by_name: dict[str, list[QueuedElement]] = {}
    for entry in queue:
        by_name.setdefault(entry.name, []).append(entry)
    given_up = [
        batch
        for name, batch in queued_batches(store, queue).items()
        if (batch.void or not batch.released) and all(map(_is_held, by_name[name]))
    ]
    ours = queued_batches(store, queue).keys()
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
            if not entries and batch.job_id is None:
                mark_void(batch.folder, "its launcher ended before Slurm took it")
            elif not entries:
                mark_ended(batch.folder)
            elif not batch.released:
                record_job(batch.folder, entries[0].array, released=True)
    return [entry for entry in queue if entry.array not in arrays and entry.job not in stuck]


def _is_held(entry: QueuedElement) -> bool:
    return entry.state == "PENDING" and entry.reason.startswith("JobHeld")
