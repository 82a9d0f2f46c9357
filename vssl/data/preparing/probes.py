"""What is known of files, kept while they are read: a `prepare` that was killed goes on where it stopped.

Every process writes a journal of its own, a line per file, so that several at once never write into one another's.
What was found counts as long as a file's size and time are the same. It is kept by the folder of the videos, so that
all divisions of a dataset, and all lists of its videos, share it.
"""

import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from vssl.artifacts import sha256_text

VERSION = 1  # of what is found in a file: another version reads all files again

Found = dict[str, Any]  # what the manifest records of a file, or {"reason", "kind"} of one that cannot be used


def probes_folder(sources: Path, root: Path) -> Path:
    """Where findings about the files below `root` lie, in the folder of all sources."""
    return sources / ".probes" / f"{root.name}-{sha256_text(str(root))[:12]}"


@dataclass
class Probes:
    """Findings of all processes, and this one's journal."""

    known: dict[tuple[str, int, int], Found]  # (path, size, mtime in ns)
    journal: TextIO

    def find(self, path: str, size: int, mtime_ns: int) -> Found | None:
        return self.known.get((path, size, mtime_ns))

    def keep(self, path: str, size: int, mtime_ns: int, found: Found) -> None:
        """Write a finding down: from here on no kill of this process loses it."""
        self.known[path, size, mtime_ns] = found
        self.journal.write(json.dumps([path, size, mtime_ns, found], separators=(",", ":")) + "\n")
        self.journal.flush()


@contextmanager
def open_probes(folder: Path) -> Iterator[Probes]:
    """Findings in a folder; a journal in which nothing was written is gone afterwards, and a folder without any."""
    with _journal(folder) as journal:
        known = {key: found for path in sorted(folder.glob(f"{VERSION}-*.jsonl")) for key, found in _read(path)}
        try:
            yield Probes(known, journal)
        finally:
            if journal.tell() == 0:
                Path(journal.name).unlink()
                for empty in (folder, folder.parent):
                    with suppress(OSError):  # something is in it
                        empty.rmdir()


def _journal(folder: Path) -> TextIO:
    name = f"{VERSION}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return open(folder / name, "x", encoding="utf-8")
        except FileNotFoundError:  # another process has just found the folder empty
            continue


def _read(path: Path) -> Iterator[tuple[tuple[str, int, int], Found]]:
    """Lines of a journal; one that a kill cut short is passed over."""
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            try:
                name, size, mtime_ns, found = json.loads(line)
            except ValueError:
                continue
            yield (name, size, mtime_ns), found
