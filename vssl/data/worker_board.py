"""What each loader process is doing, kept where the process that waits for it can read it, even after its death."""

import mmap
import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

_KEY = 2  # numbers that a key has at most
_PID, _READING, _ITEMS, _BUSY_NS, _SINCE_NS = range(5)


@dataclass(frozen=True)
class WorkerState:
    """One loader process."""

    number: int
    pid: int
    key: Any  # what it reads just now: a number or a tuple of numbers; None between two
    items: int  # read so far, what broke included
    busy_s: float  # spent reading them


class WorkerBoard:
    """Shared memory of a process and those that it forks. Each loader process writes its own row.

    Args:
        workers: loader processes.
    """

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, max(1, workers) * (_SINCE_NS + 1 + _KEY) * 8)
        self._rows = np.frombuffer(self._memory, dtype=np.int64).reshape(max(1, workers), -1)
        self._workers = workers

    def enter(self, number: int) -> None:
        """A loader process begins."""
        self._rows[number] = 0
        self._rows[number, _PID] = os.getpid()

    def begin(self, number: int, key: int | tuple[int, ...]) -> None:
        """A loader process begins to read the item of a key."""
        row, parts = self._rows[number], key if isinstance(key, tuple) else (key,)
        row[_SINCE_NS + 1 : _SINCE_NS + 1 + len(parts)] = parts
        row[_SINCE_NS] = time.monotonic_ns()
        row[_READING] = len(parts) if isinstance(key, tuple) else -1

    def end(self, number: int) -> None:
        """It has read it, or failed."""
        row = self._rows[number]
        row[_READING] = 0
        row[_ITEMS] += 1
        row[_BUSY_NS] += time.monotonic_ns() - row[_SINCE_NS]

    def states(self) -> list[WorkerState]:
        """Of all loader processes that have begun."""
        return [self._state(number) for number in range(self._workers) if self._rows[number, _PID]]

    def _state(self, number: int) -> WorkerState:
        row = self._rows[number].tolist()
        key: Any = None
        if row[_READING]:
            parts = tuple(row[_SINCE_NS + 1 :])
            key = parts[0] if row[_READING] < 0 else parts[: row[_READING]]
        return WorkerState(number, row[_PID], key, row[_ITEMS], row[_BUSY_NS] / 1e9)
