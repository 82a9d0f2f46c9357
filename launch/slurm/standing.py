"""Where one unfinished stage stands: what its attempts, its batch and Slurm's queue say of it, in this order of trust:

the queue while it answers, then the verdict of the batch script, then the attempt's own record, then its beat.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from launch.exit_codes import TRY_AGAIN
from launch.running.causes import STOPS
from launch.running.claims import is_live
from launch.running.log_files import of_attempt, tail
from launch.slurm.pending import clock, meaning
from launch.slurm.queue_view import QueueView, Sent
from vssl.artifacts import StageFolder

if TYPE_CHECKING:
    from launch.slurm.scheduler import QueuedElement

State = Literal["done", "reused", "running", "queued", "saved", "failed", "cancelled", "waiting"]
_NO_SPACE = re.compile(r"no space left|disk quota exceeded", re.IGNORECASE)
_LAST_LINES = 50
_FULL_BYTES = 1 << 20
_JUST_NOW_MS = 5_000  # clocks of two machines may differ, and the queue may have been asked just before


@dataclass(frozen=True, kw_only=True)
class Standing:
    """State of a stage by itself, whatever became of its parents."""

    state: State
    reason: str = ""
    cause: str = ""  # the batch script's word for how it ended
    slurm_reason: str = ""  # Slurm's word for why it is pending
    expected_s: float | None = None  # when Slurm expects to start it
    where: str = ""  # nodes, or the host, that it runs on


def standing(
    folder: StageFolder,
    last: Mapping[str, Any] | None,
    sent: Sent | None,
    entry: "QueuedElement | None",
    view: QueueView,
    now_s: float,
) -> Standing:
    """Judge a stage.

    Args:
        folder: its folder in the store that is written.
        last: record of its newest attempt.
        sent: the batch that it was last sent to Slurm in.
        entry: its place in the queue now; one whose script has spoken its last word is not given.
        view: whether the queue was asked, and answered.
        now_s: the clock to hold against beats.
    """
    if entry is not None:
        return _in_queue(entry, now_s)
    if folder.done.exists():
        return Standing(state="waiting", reason="its inputs have changed since it was made; it will be redone")
    if last is not None and _may_run(last, folder, view, now_s):
        return Standing(state="running", where=str(last["process"]["host"]))
    if sent is not None and (last is None or _is_of(last, sent) or sent.sent_at_ms > last["started_at_ms"]):
        judged = _after_slurm(sent, last if last is not None and _is_of(last, sent) else None, folder, view)
        if judged is not None:
            return judged
    return Standing(state="waiting") if last is None else _after_attempt(last, folder)


def _in_queue(entry: "QueuedElement", now_s: float) -> Standing:
    if entry.state != "PENDING":
        said = "" if entry.state == "RUNNING" else entry.state.lower().replace("_", " ")
        return Standing(state="running", reason=said, where=entry.nodes)
    expected = entry.start_s if entry.start_s is not None and entry.start_s > now_s else None
    when = "" if expected is None else f", expected at {clock(expected, now_s)}"
    return Standing(
        state="queued", reason=meaning(entry.reason).text + when, slurm_reason=entry.reason, expected_s=expected
    )


def _may_run(last: Mapping[str, Any], folder: StageFolder, view: QueueView, now_s: float) -> bool:
    """An attempt on Slurm runs while the queue says so; any other, and where nobody asked the queue, by its beat."""
    if last.get("outcome") == "done":
        return True  # its completion record is about to become visible
    if "slurm" in last and view.asked_at_ms is not None:
        return last.get("outcome") is None and last["started_at_ms"] > view.asked_at_ms - _JUST_NOW_MS
    return is_live(last, folder, now_s)


def _is_of(last: Mapping[str, Any], sent: Sent) -> bool:
    """Whether an attempt is a run of this very job."""
    slurm: Mapping[str, Any] = last.get("slurm") or {}
    return bool(sent.job) and slurm.get("job") == sent.job


def _after_slurm(sent: Sent, last: Mapping[str, Any] | None, folder: StageFolder, view: QueueView) -> Standing | None:
    """How a job that is not in the queue has ended; None where only its attempt can tell.

    `last` is the job's own newest attempt, if it made one.
    """
    verdict = sent.verdict
    if verdict is not None and last is not None and verdict["restart"] < last["slurm"]["restart"]:
        verdict = None  # of an earlier run
    over = verdict is not None and verdict["decision"] == "end"
    saved = last is not None and last.get("outcome") == "saved"
    if view.silent and sent.is_open and not over:
        job = f"sent to Slurm as {sent.job}" if sent.job else "being sent to Slurm"
        return Standing(state="queued", reason=f"{job}, which does not answer now")
    if sent.cancelled_at_ms is not None and not (last is not None and last.get("outcome") == "failed"):
        by = "cancelled by `vssl cancel`"
        return Standing(state="saved", reason=f"{by}; goes on from its checkpoint") if saved else _cancelled(by)
    if verdict is not None and verdict["cause"] not in ("done", "elsewhere"):
        return _by_verdict(verdict, saved, last, folder)
    if last is not None:
        return None
    if not sent.job:
        return Standing(state="waiting", reason="its submission was interrupted; the same line takes it up")
    if view.asked_at_ms is not None and view.asked_at_ms < sent.sent_at_ms + _JUST_NOW_MS:
        return Standing(state="queued", reason="sent to Slurm just now")
    return _cancelled("left the queue without having run") if verdict is None else None


def _by_verdict(
    verdict: Mapping[str, Any], saved: bool, last: Mapping[str, Any] | None, folder: StageFolder
) -> Standing:
    cause = str(verdict["cause"])
    said = str(verdict.get("error") or (last or {}).get("error") or "")
    if last is not None and not said:
        said = rank_error(folder, last["token"])
    word = cause.replace("_", " ")
    if verdict["decision"] == "requeue":
        text = f"left the queue after it was requeued ({word})"
        return Standing(state="saved", reason=text, cause=cause) if saved else _cancelled(text, cause)
    if cause in STOPS and verdict["exit_code"] == TRY_AGAIN:
        if saved:
            text = f"stopped ({said or word}) and not requeued; goes on from its checkpoint"
            return Standing(state="saved", reason=text, cause=cause)
        if cause == "signal":
            return _cancelled(f"{said or word} while it ran", cause)
    joint = " in " if cause == "exception" and said.startswith("rank ") else ": "
    text = said if said.startswith(word) else f"{word}{joint}{said}" if said else word
    return Standing(state="failed", reason=text, cause=cause)


def _cancelled(reason: str, cause: str = "") -> Standing:
    return Standing(state="cancelled", reason=reason, cause=cause)


def _after_attempt(last: Mapping[str, Any], folder: StageFolder) -> Standing:
    error = last.get("error") or rank_error(folder, last["token"])
    if last.get("outcome") == "saved" and not error:
        return Standing(state="saved", reason="stopped by a signal; goes on from its checkpoint")
    return Standing(state="failed", reason=error or _wordless(folder, last))


def _wordless(folder: StageFolder, last: Mapping[str, Any]) -> str:
    """What is said of a process that recorded nothing; on a full disk a line of its log is all that there was room for.

    A quota shows in that line alone, and a log that had no room for it shows nothing: so the disk is looked at, too.
    """
    for path in reversed(of_attempt(folder, last).files):  # the stage knows better than its script
        line = next((line for line in reversed(tail(path, _LAST_LINES)) if _NO_SPACE.search(line)), "")
        if line:
            return line.strip()
    said = "its process died without a word (killed, out of memory, power cut?)"
    if shutil.disk_usage(folder.root).free < _FULL_BYTES:
        said = f"its process died without a word, and the disk of {folder.root} is full: free some, and it goes on"
    return said


def rank_error(folder: StageFolder, token: int) -> str:
    """What a rank of an attempt raised, if one did: rank 0 may have known nothing of it."""
    for path in sorted(folder.logs.glob(f"{token}-rank*.traceback")):
        lines = path.read_text().strip().splitlines()
        return f"{path.stem.partition('-')[2]}: {lines[-1] if lines else 'failed'}"
    return ""
