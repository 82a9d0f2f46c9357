"""What a stage function sees of the world that runs it. Torch-free, and ignorant of Slurm, queues and tracking."""

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from vssl.artifacts import StageFolder

_BEAT_EVERY_S = 1.0


class Stopped(Exception):
    """Raised by a stage that was asked to stop and has saved everything it needs to go on later."""


class StageError(Exception):
    """A stage cannot do its work for a reason that its user can mend; the message says how."""


class SupersededError(StageError):
    """A newer attempt owns the stage; this one must write no more."""


class LostRankError(StageError):
    """Another rank did not come, or cannot be reached: this rank has done nothing wrong, so the reason lies there."""


class Journal:
    """The metric history of a stage: one JSON line {step, time_ms, values} per report, floats by repr.

    The journal is the truth; trackers are copies. Lines are buffered by the operating system and made durable by
    `sync`, which a checkpoint calls before it stores the byte offset that `sync` returns. A resumed stage truncates to
    the offset in its checkpoint, so a step is never reported twice. Nor by a process that was taken for dead and goes
    on beside its successor: whoever finds lines that are not its own stops, or takes them out.

    Args:
        path: of the file.
        check_ownership: raises if this process may no longer write it.
    """

    def __init__(self, path: Path, check_ownership: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._check_ownership = check_ownership
        self._descriptor: int | None = None
        self._end = 0  # of what this process knows of

    def append(self, step: int, values: Mapping[str, float]) -> None:
        row = {"step": step, "time_ms": time.time_ns() // 1_000_000, "values": dict(values)}
        descriptor = self._without_others()
        self._end += os.write(descriptor, (json.dumps(row) + "\n").encode())

    def sync(self) -> int:
        """Make all lines durable and return the journal's length in bytes."""
        os.fsync(self._without_others())
        return self._end

    def truncate(self, offset: int) -> None:
        """Forget all lines after a byte offset that an earlier `sync` returned."""
        descriptor = self._open()
        size = os.fstat(descriptor).st_size
        if size < offset:
            raise StageError(
                f"{self._path} has {size} bytes where {offset} were made durable: the journal was cut by hand or by a "
                "failing disk; redo the stage with force="
            )
        if size > offset:  # a cut that hangs in a lost node's file system may come when the stage is done already
            os.ftruncate(descriptor, offset)
            os.fsync(descriptor)
        self._end = offset

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._end = os.fstat(self._descriptor).st_size
        return self._descriptor

    def _without_others(self) -> int:
        descriptor = self._open()
        if os.fstat(descriptor).st_size != self._end:
            self._check_ownership()
            self.truncate(self._end)
        return descriptor


def read_journal(path: Path, limit: int | None = None) -> list[dict]:  # type: ignore[type-arg]
    """Rows of a journal up to a byte limit; a line that is still being written is left out."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    whole = data[: limit if limit is not None else data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


class Run:
    """One execution of a stage, as its function sees it.

    Args:
        folder: the stage's folder.
        stop_requested: becomes true once a signal, a time limit or a person asked this process to stop.
        owns: false once a newer attempt has taken the stage over; this process must then write no more.
    """

    def __init__(
        self,
        folder: StageFolder,
        *,
        stop_requested: Callable[[], bool] = lambda: False,
        owns: Callable[[], bool] = lambda: True,
    ) -> None:
        self.folder = folder
        self.journal = Journal(folder.journal, self.check_ownership)
        self.signs = 0  # of progress that the stage has given: a watchdog looks whether they grow
        self._stop_requested = stop_requested
        self._owns = owns
        self._last_beat = -_BEAT_EVERY_S
        self._untold = ""  # the position that came too soon after the last one that was told

    @property
    def dir(self) -> Path:
        return self.folder.root

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append scalars of a step to the journal. Rank 0 only."""
        self.signs += 1
        self.journal.append(step, values)

    def beat(self, step: int | None = None, steps: int | None = None) -> None:
        """Say that the stage is alive and, for whoever watches, at which of how many steps. Costs I/O once a second."""
        self.signs += 1
        position = "" if step is None else f"{step} {steps or ''}\n"
        now = time.monotonic()
        if now - self._last_beat < _BEAT_EVERY_S:
            self._untold = position or self._untold
            return
        self._last_beat, self._untold = now, ""
        if position:
            self.folder.beat.write_text(position)
        else:
            self.folder.beat.touch()

    def should_stop(self) -> bool:
        """Whether this process was asked to stop; ranks agree on the step among themselves."""
        self.signs += 1
        return self._stop_requested()

    def check_ownership(self) -> None:
        """Call before each durable write.

        Raises:
            SupersededError: a newer attempt owns the stage.
        """
        if not self._owns():
            raise SupersededError(f"a newer attempt has taken over {self.folder.root.name}; this one stops writing")

    def close(self) -> None:
        """The end of this execution: tell the last position, of a stage of less than a second the only one."""
        with suppress(OSError):  # a full disk, perhaps, is the very end
            if self._untold and self._owns():
                self.folder.beat.write_text(self._untold)
        self.journal.close()

    def artifact(self, name: str) -> Path:
        """Where to put an artifact; its folder exists. Nobody reads it before the stage's completion record."""
        self.folder.artifacts.mkdir(parents=True, exist_ok=True)
        return self.folder.artifacts / name

    def say(self, text: str) -> None:
        """One line for the person who watches."""
        print(text, flush=True)
