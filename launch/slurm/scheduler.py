"""What is asked of Slurm, in the machine formats of its commands.

A read that is not answered is asked again, a bounded number of times. A write never is: one whose answer was lost may
have worked, and the queue shows whether it did.
"""

import os
import pwd
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from launch.slurm.slurm_command import SchedulerRefusedError, SchedulerSilentError, run
from vssl.config import ConfigError

__all__ = ["NAME_PREFIX", "QueuedElement", "Scheduler", "SchedulerRefusedError", "SchedulerSilentError"]

NAME_PREFIX = "vssl-"  # of every job that this launcher submits
READ_TRIES = 2
START_IN_S = 3  # by clocks of two machines that may differ a little
_PAUSE_S = 1.0
_GONE = re.compile(
    r"invalid job id specified|already (finished|completing)|job/step already|no longer pending|no error", re.IGNORECASE
)
_SEPARATOR = "\x1f"
_QUEUE_FIELDS = (
    *("ArrayJobID", "ArrayTaskID", "State", "Reason", "StartTime", "EndTime", "RestartCnt", "NodeList", "Partition"),
    *("Dependency", "WorkDir", "SubmitTime", "Name"),
)
_NODE_FIELDS = {"partition": "%R", "nodes": "%D", "cpus": "%c", "memory_mb": "%m", "gres": "%G", "features": "%f"}
_ACCOUNTING_FIELDS = (
    *("JobID", "JobName", "State", "ExitCode", "DerivedExitCode", "Submit", "Start", "End", "ElapsedRaw", "NodeList"),
    *("NNodes", "AllocCPUS", "AllocTRES"),
)
_ENTRY = re.compile(r"(?:^|\s)([A-Za-z][\w:/]*)=(.*?)(?=\s[A-Za-z][\w:/]*=|\s*$)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class QueuedElement:
    """One array element that squeue shows."""

    job: str  # "<array>_<index>"
    array: str
    index: int
    name: str
    state: str  # PENDING, RUNNING, COMPLETING, ...
    reason: str  # of a pending one, in Slurm's word
    start_s: float | None  # when it started, or is expected to
    end_s: float | None
    restarts: int
    nodes: str
    partition: str
    dependency: str
    folder: str = ""  # that it was submitted from
    submitted_s: float | None = None  # or requeued


class Scheduler:
    """Slurm as the commands on this machine reach it.

    Args:
        timeout_s: of each command.
        read_tries: how often a read is asked before the controller counts as silent.

    `reads` and `writes` count what the controller and the database were asked: a release or cancellation of n jobs is
    n writes. Jobs are named `<array>_<index>`, or by the id of their array, never by a raw id.
    """

    def __init__(self, timeout_s: float = 60.0, read_tries: int = READ_TRIES) -> None:
        self.timeout_s = timeout_s
        self.read_tries = read_tries
        self.reads = 0
        self.writes = 0
        self._queued_total = 0

    def queue(self) -> list[QueuedElement]:
        """This user's array elements whose name is ours, sorted; one squeue."""
        layout = ",".join(f"{field}:{_SEPARATOR}" for field in _QUEUE_FIELDS)
        text = self._read("squeue", "--me", "--noheader", "--array", f"--Format={layout}")
        rows = [line.split(_SEPARATOR)[:-1] for line in text.split("\n")]
        rows = [row for row in rows if len(row) == len(_QUEUE_FIELDS)]
        self._queued_total = len(rows)
        found = [_element(row) for row in rows if row[-1].startswith(NAME_PREFIX) and row[1].isdigit()]
        return sorted(found, key=lambda one: (int(one.array), one.index))

    def queued_total(self) -> int:
        """How many elements of this user, ours or not, the last answer of `queue` held."""
        return self._queued_total

    def submit(self, script: Path, cwd: Path) -> str:
        """Queue a script, held; returns the id of its array job."""
        answer = self._write("sbatch", "--parsable", "--hold", str(script), cwd=cwd).strip().partition(";")[0]
        if not answer.isdigit():
            raise SchedulerSilentError(f"sbatch answered {answer!r}, which is no job id")
        return answer

    def test_only(self, script: Path, cwd: Path) -> str:
        """What Slurm says to a script without queueing it: when and where it could start."""
        self.reads += 1
        return run(["sbatch", "--test-only", str(script)], self.timeout_s, cwd).strip()

    def release(self, array_ids: Sequence[str]) -> None:
        """Let held arrays start; those that are gone are passed over."""
        self._write("scontrol", "release", ",".join(_checked(array_ids)), count=len(array_ids), gone_is_fine=True)

    def cancel(self, jobs: Sequence[str]) -> None:
        """End arrays or elements; those that are gone are passed over. The elements of one array are one call."""
        named = _joined(jobs)
        self._write("scancel", *named, count=len(named), gone_is_fine=True)

    def signal(self, job: str, name: str) -> None:
        """Send a signal to the ranks of a running element; its script does not get it."""
        self._write("scancel", f"--signal={name}", *_checked([job]))

    def requeue(self, job: str) -> None:
        """Put a running element back into the queue."""
        self._write("scontrol", "requeue", *_checked([job]))

    def start_now(self, job: str) -> None:
        """Bring an element's begin time forward, which a requeue sets two minutes ahead.

        Not to this very second: a node refuses a credential that is no younger than the one it has just revoked, and
        the job would fail.
        """
        words = (f"JobId={_checked([job])[0]}", f"StartTime=now+{START_IN_S}")
        self._write("scontrol", "update", *words, gone_is_fine=True)

    def show_job(self, job: str) -> dict[str, str]:
        """What Slurm knows of an element; empty once it has forgotten it. Times are seconds since the epoch."""
        try:
            return _entries(self._read("scontrol", "--oneliner", "show", "job", *_checked([job])).split("\n")[0])
        except SchedulerRefusedError as error:
            if _GONE.search(error.text):
                return {}
            raise

    def accounting(self, array_ids: Iterable[str], since_s: float) -> list[dict[str, str]]:
        """Rows of sacct for some arrays, every execution its own; none where accounting is off or out of order.

        Args:
            since_s: ids are used again after years, so rows from before this moment are other jobs.
        """
        ids = _checked(sorted(set(array_ids), key=int))
        if not ids:
            return []
        since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since_s))
        layout = ("--noheader", "--parsable2", "--duplicates", "--allocations", f"--starttime={since}")
        try:
            text = self._read("sacct", *layout, f"--jobs={','.join(ids)}", f"--format={','.join(_ACCOUNTING_FIELDS)}")
        except (SchedulerSilentError, SchedulerRefusedError, ConfigError):  # the last where there is no sacct
            return []
        rows = (dict(zip(_ACCOUNTING_FIELDS, line.split("|"))) for line in text.splitlines())
        return [row for row in rows if row.get("JobName", "").startswith(NAME_PREFIX)]

    def config(self) -> dict[str, str]:
        """Slurm's configuration; read once."""
        return self._config

    @cached_property
    def _config(self) -> dict[str, str]:
        lines = (line.partition("=") for line in self._read("scontrol", "show", "config").splitlines())
        return {key.strip(): value.strip() for key, equals, value in lines if equals}

    def partitions(self) -> dict[str, dict[str, str]]:
        """Partition -> its settings."""
        lines = map(_entries, self._read("scontrol", "--oneliner", "show", "partition").splitlines())
        return {entries["PartitionName"]: entries for entries in lines if "PartitionName" in entries}

    def nodes(self) -> list[dict[str, str]]:
        """Groups of equal nodes of each partition: partition, nodes, cpus, memory_mb, gres, features."""
        text = self._read("sinfo", "--noheader", "--exact", f"--format={_SEPARATOR.join(_NODE_FIELDS.values())}")
        rows = [line.split(_SEPARATOR) for line in text.splitlines()]
        return [dict(zip(_NODE_FIELDS, row)) for row in rows if len(row) == len(_NODE_FIELDS)]

    def submit_limit(self, account: str = "", qos: str = "") -> int | None:
        """How many jobs of this user the queue may hold at once; None where no such limit is known or enforced.

        Args:
            account: whose limit counts; "": the smallest of the user's accounts.
            qos: likewise.
        """
        enforced = self.config().get("AccountingStorageEnforce", "").lower()
        if not any(word in enforced for word in ("limits", "safe", "all")):
            return None
        rows = self._limits(
            "user", "assoc", f"user={pwd.getpwuid(os.geteuid()).pw_name}", f"cluster={self.config()['ClusterName']}"
        )
        limits = [row["maxsubmit"] for row in rows if account in ("", row["account"])]
        names = {qos} if qos else {name for row in rows for name in row["qos"].split(",")}
        limits += [row["maxsubmitpu"] for row in self._limits("name", "qos") if row["name"] in names]
        return min((int(limit) for limit in limits if limit.isdigit()), default=None)

    def _limits(self, key: str, entity: str, *where: str) -> list[dict[str, str]]:
        fields = (key, "account", "qos", "maxsubmit") if entity == "assoc" else (key, "maxsubmitpu")
        selected = ("where", *where) if where else ()
        try:
            text = self._read("sacctmgr", "-n", "-P", "show", entity, *selected, f"format={','.join(fields)}")
        except (SchedulerSilentError, SchedulerRefusedError):
            return []  # the database is away: sbatch will say whether the queue takes more
        rows = (dict(zip(fields, line.split("|"))) for line in text.splitlines())
        return [row for row in rows if len(row) == len(fields)]

    def _read(self, *words: str) -> str:
        for left in reversed(range(self.read_tries)):
            self.reads += 1
            try:
                return run(words, self.timeout_s)
            except SchedulerSilentError:
                if not left:
                    raise
                time.sleep(_PAUSE_S)
        raise AssertionError("read_tries is positive")

    def _write(self, *words: str, cwd: Path | None = None, count: int = 1, gone_is_fine: bool = False) -> str:
        self.writes += count
        try:
            return run(words, self.timeout_s, cwd)
        except SchedulerRefusedError as error:
            if gone_is_fine and all(_GONE.search(line) for line in error.text.splitlines()):
                return ""
            raise


def _checked(jobs: Sequence[str]) -> list[str]:
    for job in jobs:
        if not re.fullmatch(r"\d+(_\d+)?", job):
            raise ValueError(f"{job!r} is neither <array>_<index> nor the id of an array")
    return list(jobs)


def _joined(jobs: Sequence[str]) -> list[str]:
    """Ids with the elements of an array in one: 7, 9_1, 12_[1,4,5]."""
    indices: dict[str, list[str]] = {}
    for job in _checked(jobs):
        array, _, index = job.partition("_")
        indices.setdefault(array, []).append(index)
    found = []
    for array, of_array in indices.items():
        several = f"{array}_[{','.join(of_array)}]" if len(of_array) > 1 else f"{array}_{of_array[0]}"
        found.append(array if "" in of_array else several)
    return found


def _element(row: Sequence[str]) -> QueuedElement:
    array, index, state, reason, start, end, restarts, nodes, partition, dependency, folder, submitted, name = (
        field.strip() for field in row
    )
    return QueuedElement(
        job=f"{array}_{index}",
        array=array,
        index=int(index),
        name=name,
        state=state,
        reason=reason,
        start_s=float(start) if start.isdigit() else None,
        end_s=float(end) if end.isdigit() else None,
        restarts=int(restarts) if restarts.isdigit() else 0,
        nodes=nodes,
        partition=partition,
        dependency="" if dependency == "(null)" else dependency,
        folder=folder,
        submitted_s=float(submitted) if submitted.isdigit() else None,
    )


def _entries(line: str) -> dict[str, str]:
    """`Key=value` pairs; of a key that occurs twice the first one, since names and comments hold what people like."""
    found: dict[str, str] = {}
    for key, value in _ENTRY.findall(line):
        found.setdefault(key, value.strip())
    return found
