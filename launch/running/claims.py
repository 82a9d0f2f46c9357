"""Who may write a stage's folder: numbered attempts, created exclusively. The highest number owns the stage.

An attempt may be superseded once it has an outcome, once its process is known to be dead, or, if it ran where this
host cannot look, once its beat is older than a bound by the file server's clock; on Slurm also by a later start of its
own job, at once. A superseded process that wakes up again finds a higher number and writes no more.
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from launch.running.processes import identity, is_alive
from vssl.artifacts import StageFolder, create_json, read_json, write_json

Outcome = Literal["done", "saved", "failed"]
STALE_S = 300.0  # a live attempt beats every few seconds; network file systems may show that a minute late


class ElsewhereError(Exception):
    """The stage is running in another process; come again later."""


@dataclass(frozen=True)
class Claim:
    """This process's right to write a stage's folder."""

    folder: StageFolder
    token: int
    record: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return attempt_path(self.folder, self.token)

    def owns(self) -> bool:
        """Whether this attempt is still the newest of this folder, and the folder still the one that was claimed."""
        mine = read_json(self.path)
        return (
            mine is not None
            and mine["nonce"] == self.record["nonce"]
            and not attempt_path(self.folder, self.token + 1).exists()
        )

    def withdraw(self) -> None:
        """Take the claim back: there was nothing to do. Whoever claimed meanwhile finds the same."""
        if self.owns():
            self.path.unlink()

    def finish(self, outcome: Outcome, exit_code: int, error: str = "", **facts: Any) -> None:
        """Record how the attempt ended. A superseded attempt leaves its record as it is."""
        if self.owns():
            ended = {"outcome": outcome, "exit_code": exit_code, "error": error, "ended_at_ms": now_ms(), **facts}
            write_json(self.path, {**self.record, **ended})


def attempt_path(folder: StageFolder, token: int) -> Path:
    return folder.attempts / f"{token}.json"


def tokens(folder: StageFolder) -> list[int]:
    """Numbers of all attempts, ascending."""
    try:
        return sorted(int(path.stem) for path in folder.attempts.glob("*.json") if path.stem.isdigit())
    except FileNotFoundError:
        return []


def attempts(folder: StageFolder) -> list[Mapping[str, Any]]:
    """Records of all attempts, oldest first."""
    records = (read_json(attempt_path(folder, token)) for token in tokens(folder))
    return [record for record in records if record is not None]


def newest(folder: StageFolder) -> Mapping[str, Any] | None:
    """Record of the newest attempt; older ones are not read."""
    records = (read_json(attempt_path(folder, token)) for token in reversed(tokens(folder)))
    return next((record for record in records if record is not None), None)


def is_live(attempt: Mapping[str, Any], folder: StageFolder, now_s: float, stale_s: float = STALE_S) -> bool:
    """Whether an attempt may still be writing. `now_s` is the clock to hold against its beat."""
    if attempt.get("outcome") is not None:
        return False
    alive = is_alive(attempt["process"])
    if alive is not None:
        return alive
    return now_s - last_sign_s(attempt, folder) < stale_s


def last_sign_s(attempt: Mapping[str, Any], folder: StageFolder) -> float:
    """When the newest attempt was last seen alive, by the file server's clock."""
    try:
        return folder.beat.stat().st_mtime
    except FileNotFoundError:
        return attempt_path(folder, attempt["token"]).stat().st_mtime


def server_now_s(folder: Path) -> float:
    """The clock of the file server that holds a folder, and stamped the beats: that of a file made just now."""
    probe = folder / f".{uuid.uuid4().hex}.tmp"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def claim(
    folder: StageFolder, nonce: str, facts: Mapping[str, Any], *, visibility_s: float = 0.0, stale_s: float = STALE_S
) -> Claim:
    """Become the owner of a stage's folder.

    Args:
        folder: an existing stage folder.
        nonce: tells this launch from every other one; all its ranks know it.
        facts: what else the attempt's record shall hold.
        visibility_s: how long another machine's attempt may stay invisible here.
        stale_s: age of a beat from which an attempt on another host counts as dead.

    Raises:
        ElsewhereError: a live attempt owns the stage, or a later start of this very job has owned it.
    """
    deadline = time.monotonic() + visibility_s + 1.0
    while True:
        last = check_free(folder, facts, stale_s)
        token = (tokens(folder) or [0])[-1] + 1
        record = {"token": token, "nonce": nonce, "process": identity(), "started_at_ms": now_ms(), **facts}
        if last is not None and last.get("outcome") is None:  # its beat is about to be overwritten
            record["predecessor_seen_ms"] = round(1000 * last_sign_s(last, folder))
        if create_json(attempt_path(folder, token), record):
            return Claim(folder, token, record)
        if time.monotonic() > deadline:  # another machine's attempt exists but cannot be read yet
            raise ElsewhereError(f"{folder.root.name} was just claimed by another machine")
        time.sleep(0.05)


def check_free(folder: StageFolder, facts: Mapping[str, Any], stale_s: float = STALE_S) -> Mapping[str, Any] | None:
    """The newest attempt, which a claim with these facts may supersede; None where there is none.

    Raises:
        ElsewhereError: it may not.
    """
    last = newest(folder)
    if last is None:
        return None
    starts = _starts_of(last, facts)
    if starts is not None:  # the same job: its restart count decides, and no clock
        if starts[0] < starts[1]:
            return last
        if starts[0] > starts[1]:
            raise ElsewhereError(f"{folder.root.name} belongs to a later start of this job; this one is left over")
    if is_live(last, folder, server_now_s(folder.attempts), stale_s):
        where = f"process {last['process']['pid']} on {last['process']['host']}"
        raise ElsewhereError(f"{folder.root.name} is running elsewhere (attempt {last['token']}, {where})")
    return last


def _starts_of(attempt: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[int, int] | None:
    """Restart counts of an attempt and of a claim, if both are of one Slurm job. Ids return, batches do not."""
    theirs, ours = attempt.get("slurm"), facts.get("slurm")
    if not theirs or not ours or theirs["job"] != ours["job"] or attempt.get("batch") != facts.get("batch"):
        return None
    return theirs["restart"], ours["restart"]


def attempt_of(folder: StageFolder, nonce: str) -> Mapping[str, Any] | None:
    """The attempt that a launch made; None where it made none."""
    records = (read_json(attempt_path(folder, token)) for token in reversed(tokens(folder)))
    return next((record for record in records if record is not None and record["nonce"] == nonce), None)


def close(folder: StageFolder, attempt: Mapping[str, Any], exit_code: int, error: str) -> None:
    """Record the end of an attempt that could not do so itself. Only once its processes are gone."""
    if attempt.get("outcome") is None:
        Claim(folder, attempt["token"], attempt).finish("failed", exit_code, error)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
