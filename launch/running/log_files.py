"""The files that the ranks and the script of one run of a stage print into, and how their ends are read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.running.batch_folder import BatchFolder
from launch.running.children import newest_log
from vssl.artifacts import StageFolder

TAIL_BYTES = 4 << 20  # a log may hold gigabytes; its end is what is read


@dataclass(frozen=True, kw_only=True)
class Logs:
    """The files of a stage's newest run, whether or not they are there yet."""

    script: Path | None = None  # what the batch script printed before Python and after it
    stage: Path | None = None  # what the stage's process printed

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.script, self.stage) if path is not None]


def of_batch(batch: Path, index: int, rank: int) -> Logs:
    folder = BatchFolder(batch)
    return Logs(script=folder.script_log(index), stage=folder.rank_log(index, rank))


def of_attempt(folder: StageFolder, last: Mapping[str, Any] | None, rank: int = 0) -> Logs:
    """The logs of an attempt, of a stage that runs without Slurm those of its newest start."""
    if last is not None and last.get("slurm"):
        batch = folder.root.parent.parent / "batches" / str(last["batch"])
        return of_batch(batch, int(str(last["slurm"]["job"]).rpartition("_")[2]), rank)
    log = newest_log(folder)
    return Logs(stage=log if log is None or not rank else log.with_name(f"{log.stem}.rank{rank}.log"))


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a file; none where there is no file."""
    return lines_of(read_from(path, -TAIL_BYTES)[1], lines)


def read_from(path: Path, offset: int) -> tuple[int, bytes]:
    """(where it begins, what stands there to the end) of a file; a negative offset counts from the end."""
    try:
        with open(path, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            start = max(0, size + offset) if offset < 0 else offset if offset <= size else 0  # it was made anew
            stream.seek(start)
            return start, stream.read()
    except FileNotFoundError:
        return 0, b""


def lines_of(data: bytes, count: int | None = None) -> list[str]:
    found = data.decode(errors="replace").splitlines()
    return found if count is None else found[-count:] if count > 0 else []
