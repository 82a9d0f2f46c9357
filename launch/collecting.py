"""The verb `gc`: find what may go, say it, and where that was asked for remove it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launch.garbage import Garbage, find_garbage, remove, stage_folders
from launch.queue_view import look
from launch.scheduler import SchedulerSilentError
from launch.store import Store
from launch.targets import pipelines

if TYPE_CHECKING:
    from launch.scheduler import Scheduler


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
    root: Path, older_than_days: float | None = None, *, delete: bool = False, scheduler: "Scheduler | None" = None
) -> Collected:
    """Look for garbage in a store, and remove it if asked.

    Raises:
        SchedulerSilentError: Slurm does not say what is in its queue, so nothing is known to be garbage.
        ConfigError: the store cannot be written.
    """
    store = Store(root)
    if not delete:
        return Collected(garbage=find_garbage(store, _in_flight(store, scheduler), older_than_days), deleted=False)
    # Old pipelines first: what a line that is typed meanwhile saves is seen by the second look.
    gone = list(remove(_pipelines_of(find_garbage(store, _in_flight(store, scheduler), older_than_days), store), store))
    gone += remove(find_garbage(store, _in_flight(store, scheduler)), store)
    return Collected(garbage=gone, deleted=True)


def _pipelines_of(garbage: Sequence[Garbage], store: Store) -> list[Garbage]:
    return [one for one in garbage if one.path.parent == store.pipelines]


def _in_flight(store: Store, scheduler: "Scheduler | None") -> set[str]:
    """Folder names of the stages in Slurm's queue."""
    names = set().union(*map(stage_folders, pipelines(store.root)))
    names |= {path.name for path in store.stage("").root.glob("*")}
    view = look(store, names, "", scheduler)
    if view.silent:
        raise SchedulerSilentError(view.silent)
    return set(view.queued)


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
