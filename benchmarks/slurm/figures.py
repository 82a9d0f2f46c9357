"""What Slurm's figures have in common: a row of the table, and the clusters and stores that its measurement needs."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from launch.slurm.scheduler import Scheduler
from tests.slurm.sandbox import DEFAULT, Sandbox, Variant

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement beside what it must hold."""

    what: str
    value: str
    bar: str
    ok: bool


class Bench:
    """Throw-away clusters and empty folders for the length of a block; clusters are shared by rows that like the same.

    Attributes:
        folder: holds everything, and goes at the end.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vssl-figures-"))
        self._stack = ExitStack()
        self._clusters: dict[Variant, Sandbox] = {}
        self._kept: dict[Callable[[Bench], Any], Any] = {}

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        for place, _, _ in os.walk(self.folder):
            Path(place).chmod(0o755)  # snapshots of code are read-only
        shutil.rmtree(self.folder, ignore_errors=True)

    def cluster(self, variant: Variant = DEFAULT) -> Sandbox:
        """An idle cluster, to which Slurm's commands of this process lead from now on."""
        if variant not in self._clusters:
            place = self.folder / f"s{len(self._clusters)}"
            self._clusters[variant] = self._stack.enter_context(Sandbox(place, variant))
        cluster = self._clusters[variant]
        cluster.run("scontrol", "update", "PartitionName=cpu", "State=UP", check=False)
        cluster.drain()
        os.environ.update(cluster.environment)
        return cluster

    def place(self, name: str) -> Path:
        """A new, empty folder."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def kept(self, make: "Callable[[Bench], T]") -> T:
        """What a function makes of this bench: once, for all rows that ask for it and leave it as it is."""
        if make not in self._kept:
            self._kept[make] = make(self)
        found: T = self._kept[make]
        return found


Figure = Callable[[Bench], Iterable[Row]]


@contextmanager
def closed(cluster: Sandbox) -> Iterator[None]:
    """A while in which the queue takes jobs and starts none; then it is emptied."""
    cluster.run("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        yield
    finally:
        cluster.run("scancel", "--me")
        cluster.drain()
        cluster.run("scontrol", "update", "PartitionName=cpu", "State=UP")


def queued() -> int:
    """How many elements are in the queue."""
    return len(Scheduler().queue())


def listed(seconds: Iterable[float]) -> str:
    """Every measurement, behind its median."""
    return ", ".join(f"{one:.1f}" for one in seconds)
