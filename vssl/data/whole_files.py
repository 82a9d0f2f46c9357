"""Files of a tree that several processes may make at once: whole or not at all, and the first one stays.

So a stage that was killed goes on with what is there, and one that was taken for dead and goes on beside its successor
changes nothing that the successor has made.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vssl.artifacts import sync


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """A name to write to; at the end what was written is durable and has the name `path`, unless that is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{uuid.uuid4().hex}.tmp")
    with open(aside, "xb") as held:
        with suppress(OSError):  # a file system without locks: its leftovers are cleared even while they grow
            fcntl.flock(held, fcntl.LOCK_SH)
        try:
            yield aside
            os.fsync(held.fileno())
            with suppress(FileExistsError):
                os.link(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    sync(path.parent)


def linked(original: Path, path: Path) -> None:
    """Give a file that never changes a second name; where the disk is another one, its bytes are copied."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(original, path)
    except FileExistsError:
        return
    except OSError:
        with made_whole(path) as aside:
            shutil.copyfile(original, aside)


def clear_leftovers(tree: Path) -> None:
    """Remove what killed processes have left half-written below a folder, and nothing that is being written."""
    for leftover in tree.rglob("*.tmp"):
        with suppress(FileNotFoundError), open(leftover, "rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError:
                pass
            leftover.unlink()
