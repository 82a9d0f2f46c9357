"""What a rank leaves behind last: how it ended, and why. A rank that is killed leaves nothing."""

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.running.batch_folder import BatchFolder
from launch.running.causes import Cause
from launch.running.claims import now_ms
from launch.running.redaction import redact
from vssl.artifacts import read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How one rank ends."""

    code: int  # of its process
    cause: Cause
    error: str = ""
    lost_rank: bool = False  # the error is that another rank is gone
    stopped_by: str = ""  # the signal that asked it to stop, or `time_limit`
    stopped_at_ms: int | None = None


class ExitRecords:
    """The records of one launch of a batch element, one per rank."""

    def __init__(self, batch: BatchFolder, index: int, key: str) -> None:
        self.batch = batch
        self.index = index
        self.key = key

    def write(self, rank: int, ending: Ending) -> None:
        """Whole or not at all; a disk that is full costs the record and not the exit code."""
        host = os.environ.get("VSSL_NODE") or socket.gethostname()
        record = {**vars(ending), "rank": rank, "host": host, "at_ms": now_ms()}
        path = self.batch.exit_record(self.index, self.key, rank)
        try:
            path.parent.mkdir(exist_ok=True)
            write_json(path, {**record, "error": redact(ending.error, os.environ)})
        except OSError as error:
            print(f"the end of rank {rank} could not be recorded: {error}", file=sys.stderr, flush=True)

    def read(self, rank: int) -> Mapping[str, Any] | None:
        record: Mapping[str, Any] | None = read_json(self.batch.exit_record(self.index, self.key, rank))
        return record

    def read_all(self, ranks: int) -> dict[int, Mapping[str, Any]]:
        """rank -> record, of those that left one."""
        folder = self.batch.exit_record(self.index, self.key, 0).parent
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        expected = {rank: self.batch.exit_record(self.index, self.key, rank).name for rank in range(ranks)}
        found = {rank: self.read(rank) for rank, name in expected.items() if name in names}
        return {rank: record for rank, record in found.items() if record is not None}
