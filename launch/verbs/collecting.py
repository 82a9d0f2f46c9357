"""The verb `gc`: find what may go, say it, and where that was asked for remove it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launch.batches import in_flight, open_batches
from launch.slurm.queue_view import impatient
from launch.slurm.submit_lock import submitting
from launch.store import Store
from launch.verbs.garbage import Garbage, find_garbage, remove
from vssl.config import ConfigError

if TYPE_CHECKING:
    from launch.slurm.scheduler import Scheduler


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What may go, or is gone."""

    garbage: Sequence[Garbage]
    deleted: bool

    @property
    def size(self) -> int:
        return sum(one.size for one in self.garbage)

    def lines(self, root: Path) -> list[str]:
        """For a person: one line for each folder, and the sum."""
        verb = "removed" if self.deleted else "would remove"
        lines = [f"{_bytes(one.size):>9}  {one.path.relative_to(root)}: {one.why}" for one in self.garbage]
        hint = "" if self.deleted or not self.garbage else "; --delete does it"
        return [*lines, f"{verb} {len(self.garbage)} folders, {_bytes(self.size)}{hint}"]


def collect(
    root: Path,
    older_than_days: float | None = None,
    *,
    delete: bool = False,
    scheduler: "Scheduler | None" = None,
    say: Callable[[str], None] = print,
) -> Collected:
    """Look for garbage in a store, and remove it if asked.

    Raises:
        SchedulerSilentError: Slurm does not say what is in its queue, so nothing is known to be garbage.
        LockHeldError: a launcher is submitting from this store.
        ConfigError: no such store, or it cannot be written.
    """
    if not root.is_dir():
        raise ConfigError(f"no store in {root}; name another one with --root or VSSL_ROOT")
    store = Store(root)
    if not delete:
        return Collected(garbage=find_garbage(store, _in_flight(store, scheduler), older_than_days), deleted=False)
    with submitting(store, say):  # nobody takes up, meanwhile, what is about to go
        # Old pipelines first: what another executor's line saves meanwhile is seen by the second look.
        old = find_garbage(store, _in_flight(store, scheduler), older_than_days)
        gone = list(remove([one for one in old if one.path.parent == store.pipelines], store))
        gone += remove(find_garbage(store, _in_flight(store, scheduler)), store)
    return Collected(garbage=gone, deleted=True)


def _in_flight(store: Store, scheduler: "Scheduler | None") -> set[str]:
    """Folder names of the stages in Slurm's queue; it is not asked where no batch is open."""
    if not open_batches(store):
        return set()
    return set(in_flight(store, (scheduler or impatient()).queue()))


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
