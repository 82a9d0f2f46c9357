"""One launcher at a time submits from a store, on whichever machine the same line is typed twice.

Locks are numbered files, created exclusively, and the highest number counts: of two launchers that find the owner of
number 5 dead, one makes number 6, and a slower one that wakes up later finds a higher number than its own. So nothing
is ever taken away from anybody, and the highest file stays when its owner is done.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.running.claims import now_ms, server_now_s
from launch.running.processes import identity, is_alive
from launch.store import Store
from vssl.artifacts import create_json, read_json, write_json

BEAT_EVERY_S = 5.0
STALE_S = 120.0  # of a beat on another host; a file server may show it a minute late
WAIT_S = 600.0  # a submission takes seconds
_TICK_S = 0.1
_KEPT = 50  # numbers: far more than a machine that sees names late could be behind


class LockHeldError(Exception):
    """Another launcher submits, or has taken over; the same line again goes on from what it leaves."""


@dataclass(frozen=True)
class SubmitLock:
    """This process's right to submit."""

    folder: Path
    number: int
    record: Mapping[str, Any]

    def check(self) -> None:
        """Call before whatever changes the queue.

        Raises:
            LockHeldError: another launcher took this one for dead.
        """
        if _highest(self.folder) != self.number or read_json(_path(self.folder, self.number)) != self.record:
            raise LockHeldError("another launcher has taken over this submission, because this one was silent for long")


@contextmanager
def submitting(store: Store, say: Callable[[str], None], wait_s: float = WAIT_S) -> Iterator[SubmitLock]:
    """Hold the store's lock for a block.

    Args:
        say: told once whom this one waits for.
        wait_s: how long at most.

    Raises:
        LockHeldError: it was not free within that time.
    """
    folder = store.submitting
    with store.writing():
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquire(folder, say, wait_s)
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(lock, ended), daemon=True)
    thread.start()
    try:
        yield lock
    finally:
        ended.set()
        thread.join()
        with suppress(LockHeldError, OSError):  # on a full disk, the end of this process frees it
            lock.check()
            write_json(_path(folder, lock.number), {**lock.record, "released_at_ms": now_ms()})


def _acquire(folder: Path, say: Callable[[str], None], wait_s: float) -> SubmitLock:
    deadline = time.monotonic() + wait_s
    told = False
    while True:
        number = _highest(folder)
        owner = read_json(_path(folder, number)) if number else None
        if not _is_held(owner, folder, number):
            record = {"owner": identity(), "nonce": uuid.uuid4().hex, "at_ms": now_ms()}
            if create_json(_path(folder, number + 1), record) and _highest(folder) == number + 1:
                for old in range(max(1, number - 2 * _KEPT), number - _KEPT):
                    _path(folder, old).unlink(missing_ok=True)
                return SubmitLock(folder, number + 1, record)
        elif not told:
            told = True
            process = owner["owner"] if owner else {}
            say(f"another launcher submits (process {process.get('pid')} on {process.get('host')}); waiting for it")
        if time.monotonic() > deadline:
            raise LockHeldError(f"another launcher has been submitting for {wait_s:.0f} s; try again later")
        time.sleep(_TICK_S)


def _is_held(owner: Mapping[str, Any] | None, folder: Path, number: int) -> bool:
    if number == 0 or (owner is not None and "released_at_ms" in owner):
        return False
    if owner is None:  # created on another machine, and not readable yet
        return True
    alive = is_alive(owner["owner"])
    if alive is not None:
        return alive
    try:
        return server_now_s(folder) - _path(folder, number).stat().st_mtime < STALE_S
    except FileNotFoundError:
        return True


def _beat(lock: SubmitLock, ended: threading.Event) -> None:
    while not ended.wait(BEAT_EVERY_S):
        with suppress(OSError):  # the file server is away; an old beat is what others should see then
            os.utime(_path(lock.folder, lock.number))


def _highest(folder: Path) -> int:
    return max((int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit()), default=0)


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number}.json"
