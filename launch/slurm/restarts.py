"""Launches whose script could not say how they ended, because its machine was gone: the next one says it for them."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.exit_codes import TRY_AGAIN
from launch.running.allocation import Allocation
from launch.running.batch_folder import BatchFolder
from launch.running.causes import Cause, Policy, times
from launch.running.claims import attempt_of, last_sign_s, now_ms
from launch.slurm.findings import LOST, slurm_said
from vssl.artifacts import StageFolder, create_json, read_json
from vssl.config import ConfigError

if TYPE_CHECKING:
    from launch.slurm.scheduler import Scheduler

_LOG_BYTES = 1 << 16  # from the end: what is looked for is printed last
_REQUEUED = re.compile(r"^.*\*\*\* JOB .* DUE TO JOB REQUEUE \*\*\*$", re.M)
_ACCOUNTED: Mapping[str, Cause] = {
    "PREEMPTED": "preempted",
    "NODE_FAIL": "node_failure",
    "BOOT_FAIL": "node_failure",
    "TIMEOUT": "time_limit",
    "OUT_OF_MEMORY": "out_of_memory",
    "REQUEUED": "signal",
}


class BudgetSpentError(Exception):
    """Slurm has started a stage again and again after the same misfortune; somebody should look."""

    def __init__(self, cause: Cause, text: str) -> None:
        super().__init__(text)
        self.cause = cause


def account_for_lost_launches(
    batch: BatchFolder, index: int, ranks: int, allocation: Allocation, folder: StageFolder, scheduler: "Scheduler"
) -> None:
    """Write the missing verdicts on earlier starts of this job. Slurm started it again by itself, so they count once.

    Args:
        batch: the job's batch.
        index: of the element in it.
        ranks: of the stage.
        allocation: this start of the job.
        folder: the stage's folder.
        scheduler: its accounting, where that is on, remembers what happened.
    """
    for restart in range(allocation.restart):
        path = batch.verdict(index, restart)
        if path.exists():
            continue
        log, log_bytes = log_since(batch, index, ranks, verdicts(batch, index, restart))
        cause = slurm_said(log) or _accounted(batch, allocation, restart, scheduler) or LOST
        attempt = attempt_of(folder, f"{allocation.job}.{restart}")
        record = {
            "cause": cause,
            "error": "ended without a word, and Slurm started it again",
            "rc": None,
            "decision": "requeue",
            "exit_code": TRY_AGAIN,
            "by_slurm": True,
            "log_bytes": log_bytes,
            "at_ms": now_ms() if attempt is None else round(1000 * last_sign_s(attempt, folder)),
        }
        path.parent.mkdir(exist_ok=True)
        create_json(path, record)  # never replaces: on a network file system the real one may only be invisible yet


def check_budget(batch: BatchFolder, index: int, restart: int, policy: Policy) -> None:
    """Refuse to go on for ever: of Slurm's own restarts settle never hears.

    Raises:
        BudgetSpentError: the last start was one too many of its kind.
    """
    earlier = verdicts(batch, index, restart)
    if not earlier or not earlier[-1].get("by_slurm"):
        return
    cause: Cause = earlier[-1]["cause"]
    spent = times(cause, earlier)
    if spent > policy.budget(cause):
        raise BudgetSpentError(cause, f"Slurm has started this stage again {spent} times after {cause}")


def verdicts(batch: BatchFolder, index: int, restart: int) -> list[Mapping[str, Any]]:
    """The verdicts on the launches before a restart, oldest first."""
    found = (read_json(batch.verdict(index, earlier)) for earlier in range(restart))
    return [verdict for verdict in found if verdict is not None]


def log_since(
    batch: BatchFolder, index: int, ranks: int, earlier: Sequence[Mapping[str, Any]]
) -> tuple[str, dict[str, int]]:
    """(what the logs say of the launch after some verdicts, the length of each log): they grow over restarts.

    Slurm's daemons write into the log of the first rank of their node, and srun into the script's, which comes last.
    """
    starts: dict[str, int] = {}
    for verdict in earlier:
        starts |= verdict.get("log_bytes") or {}
    texts, sizes = [], {}
    for path in (*(batch.rank_log(index, rank) for rank in range(ranks)), batch.script_log(index)):
        text, sizes[path.name] = _read(path, starts.get(path.name, 0))
        texts.append(text)
    if earlier and earlier[-1]["decision"] == "requeue" and not earlier[-1].get("by_slurm"):
        texts[-1] = _REQUEUED.sub("", texts[-1], count=1)  # settle's own, printed after its verdict
    return "\n".join(texts), sizes


def _read(path: Path, start: int) -> tuple[str, int]:
    try:
        with open(path, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(start, size - _LOG_BYTES))
            return stream.read().decode(errors="replace"), size
    except FileNotFoundError:
        return "", 0


def _accounted(batch: BatchFolder, allocation: Allocation, restart: int, scheduler: "Scheduler") -> Cause | None:
    """What Slurm's accounting says of an earlier start of this job, where there is accounting."""
    since_s = read_json(batch.elements)["slurm"]["created_at_ms"] / 1000
    try:
        rows = scheduler.accounting([allocation.job.partition("_")[0]], since_s - 60)
    except ConfigError:  # a node without the command
        return None
    starts = [row for row in rows if row["JobID"] == allocation.job]
    return _ACCOUNTED.get(starts[restart]["State"].partition(" ")[0]) if restart < len(starts) - 1 else None
