"""One push at a time: a lock file that a crashed holder cannot keep. Works on local disks and on NFS."""

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vssl.artifacts import create_json, read_json

STALE_S = 600.0  # a holder on another host that has not finished by then is taken for dead


@contextmanager
def exclusive(path: Path, wait_s: float, stale_s: float = STALE_S) -> Iterator[str]:
    """Hold the lock file `path` inside the block.

    Args:
        path: the lock file; it exists while somebody holds the lock.
        wait_s: how long to wait for another holder.
        stale_s: age from which a holder on another host is taken for dead.

    Yields:
        "" where the lock is held, else who holds it: the block must then change nothing.
    """
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "nonce": uuid.uuid4().hex, "at_s": time.time()}
    deadline = time.monotonic() + wait_s
    while not create_json(path, mine):
        holder = read_json(path)
        if holder is None:
            continue  # released just now
        if _is_stale(holder, stale_s):
            _remove(path, holder)
        elif time.monotonic() > deadline:
            yield f"process {holder['pid']} on {holder['host']}"
            return
        else:
            time.sleep(0.05)
    try:
        yield ""
    finally:
        _remove(path, mine)


def _is_stale(holder: dict[str, Any], stale_s: float) -> bool:
    if holder["host"] == socket.gethostname():
        try:
            os.kill(holder["pid"], 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # alive, and somebody else's
            return False
    return bool(time.time() - holder["at_s"] > stale_s)


def _remove(path: Path, holder: dict[str, Any]) -> None:
    """Remove the lock of one holder and of nobody else."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(aside)  # only one of several processes that saw the stale lock succeeds
    except FileNotFoundError:
        return
    if read_json(aside) == holder:
        aside.unlink()
        return
    with suppress(FileExistsError):
        os.link(aside, path)  # it was a newer holder's: put it back
    aside.unlink()
