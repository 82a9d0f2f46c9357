"""Which cause a launch of a stage ended for, from what its ranks, Slurm and the log said."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from signal import Signals
from typing import Any

from launch.exit_codes import DONE
from launch.running.causes import STOPS, Cause, Finding

_SAID_AT_THE_START: tuple[Cause, ...] = ("bad_input", "refused", "elsewhere")
_SAID_AT_THE_END: tuple[Cause, ...] = ("out_of_memory", "exception", "killed", "hung", "node_failure")
# Slurm starts a job again after a preemption, a person's word or the loss of a node; the first two leave a line.
LOST: Cause = "node_failure"
_EARLY_S = 65.0  # Slurm sends the signal before a time limit up to a minute early

_OUT_OF_MEMORY = re.compile(
    r"^slurmstepd.*(oom[-_ ]?kill|out[-_ ]of[-_ ]memory handler|exceeded (job )?memory limit).*$", re.I | re.M
)
_CANCELLED = re.compile(r"\*\*\* JOB \S+ ON \S+ CANCELLED AT \S+(?: DUE TO ([A-Z ]+?))? \*\*\*")
_TASK_ENDED = re.compile(r"^srun: error: (\S+): tasks? ([\d,-]+): (.+)$", re.M)
_NODE_LOST = re.compile(r"^srun: error: Node failure on \S+", re.M)
_SLURM_SAID: Mapping[str, Cause] = {
    "PREEMPTION": "preempted",
    "NODE FAILURE": "node_failure",
    "TIME LIMIT": "time_limit",
    "JOB REQUEUE": "signal",  # by a person: settle asks for it when everything else is written
}


@dataclass(frozen=True, kw_only=True)
class SlurmFacts:
    """What `scontrol show job` says of an element while its script still runs."""

    state: str
    reason: str
    restarts: int
    preempted: bool
    end_s: float | None

    @property
    def is_calm(self) -> bool:
        """Whether nothing takes the job's time away, so that one may wait for what explains its end."""
        return self.state == "RUNNING" and not self.preempted

    @classmethod
    def of(cls, job: Mapping[str, str]) -> "SlurmFacts | None":
        """None where Slurm did not answer, or knows nothing."""
        if not job:
            return None
        end, preempt = job.get("EndTime", ""), job.get("PreemptTime", "")
        return cls(
            state=job.get("JobState", ""),
            reason=job.get("Reason", ""),
            restarts=int(job.get("Restarts") or 0),
            preempted=preempt.isdigit(),
            end_s=float(end) if end.isdigit() else None,
        )


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known at the end of one launch."""

    rc: int  # of srun: the highest of its tasks' codes, or 128 + a signal
    ranks: int
    restart: int = 0
    is_done: bool = False
    records: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)  # rank -> exit record
    attempt: Mapping[str, Any] | None = None  # of this launch
    slurm: SlurmFacts | None = None
    log: str = ""  # what the ranks, then the script, srun and Slurm's daemons printed in this launch
    last_line: str = ""  # of what rank 0 printed


def find(evidence: Evidence, signal_delay_s: float) -> Finding:
    """The cause, from what is certain to what is guessed: a rank's own word, then Slurm's, then what is missing."""
    if evidence.is_done:
        return Finding("done")
    slurm = evidence.slurm
    if slurm is not None and slurm.restarts > evidence.restart:  # whatever ranks say: they may have been superseded
        return Finding(slurm_said(evidence.log) or LOST, "Slurm requeued it", by_slurm=True)
    return _by_records(evidence) or _by_slurm(evidence, signal_delay_s) or _by_absence(evidence)


def _by_records(evidence: Evidence) -> Finding | None:
    """What a rank has recorded, of several the one that brought the others down."""
    records = sorted(evidence.records.values(), key=lambda one: one["at_ms"])
    missing = len(records) < evidence.ranks
    own = [one for one in records if not one.get("lost_rank")]
    by_cause: dict[str, Mapping[str, Any]] = {}
    for one in own:
        by_cause.setdefault(one["cause"], one)
    for cause in _SAID_AT_THE_START:
        if cause in by_cause:
            return Finding(cause, by_cause[cause]["error"])
    killed_for_memory = memory_line(evidence.log)
    if killed_for_memory and (missing or "exception" in by_cause or "killed" in by_cause):
        return Finding("out_of_memory", killed_for_memory)
    for cause in _SAID_AT_THE_END:
        if cause in by_cause:
            return Finding(cause, _told(by_cause[cause]))
    lost = [one for one in records if one.get("lost_rank")]
    if lost and not missing:
        return Finding("exception", _told(lost[0]))
    return None


def _told(record: Mapping[str, Any]) -> str:
    return f"rank {record['rank']} on {record['host']}: {record['error']}"


def _by_slurm(evidence: Evidence, signal_delay_s: float) -> Finding | None:
    """What Slurm did to the job, or an agreed stop that it or a person asked for."""
    slurm, said = evidence.slurm, slurm_said(evidence.log)
    stopped = {one["cause"] for one in evidence.records.values() if one["cause"] in STOPS}
    if (slurm is not None and slurm.preempted) or said == "preempted":
        return Finding("preempted", "" if stopped else "preempted before it had saved")
    if slurm is None:
        if said is not None:
            return Finding(said, "" if stopped else "ended by Slurm before it had saved", final=said == "signal")
    elif slurm.state != "RUNNING":  # it is being ended while its script still runs
        if slurm.reason == "TimeLimit":
            return Finding("time_limit", "" if stopped else "the time limit came before it had saved")
        return Finding("signal", "cancelled", final=True)
    if not stopped or _was_brought_down(evidence):
        return None
    if "time_limit" in stopped or _is_near_the_end(evidence, signal_delay_s):
        return Finding("time_limit")
    return Finding("signal", _by_whom(evidence))


def _was_brought_down(evidence: Evidence) -> bool:
    """Whether the stop was srun's: when a task dies it sends SIGTERM to the others, and they save as for any other."""
    by_sigterm = all(one.get("stopped_by") in ("", None, "SIGTERM") for one in evidence.records.values())
    return by_sigterm and len(evidence.records) < evidence.ranks


def _is_near_the_end(evidence: Evidence, signal_delay_s: float) -> bool:
    attempt: Mapping[str, Any] = evidence.attempt or {}
    end_s = evidence.slurm.end_s if evidence.slurm is not None else (attempt.get("slurm") or {}).get("end_time_s")
    stopped_ms = [one["stopped_at_ms"] for one in evidence.records.values() if one.get("stopped_at_ms")]
    return end_s is not None and bool(stopped_ms) and min(stopped_ms) / 1000 > end_s - signal_delay_s - _EARLY_S


def _by_whom(evidence: Evidence) -> str:
    names = {one.get("stopped_by") for one in evidence.records.values()} - {None, ""}
    return f"stopped by {', '.join(sorted(map(str, names)))}" if names else ""


def _by_absence(evidence: Evidence) -> Finding:
    """Nobody said why: by what srun printed, and by its exit code."""
    missing = [rank for rank in range(evidence.ranks) if rank not in evidence.records]
    if not missing:
        return Finding("exception", f"srun ended with {evidence.rc}, but the stage has no completion record")
    if lost := _NODE_LOST.search(evidence.log):
        return Finding("node_failure", lost[0])
    ended = _TASK_ENDED.search(evidence.log)  # the first line is about the one that died first
    who = (
        f"rank {ended[2]} on {ended[1]}: {ended[3]}" if ended else f"rank {', '.join(map(str, missing))} left no record"
    )
    if evidence.rc == DONE:  # a rank that ends with 0 has recorded it, and srun says 0 of one whose node is gone
        return Finding("node_failure", f"{who}, and srun ended with 0: its node was lost, it seems")
    if evidence.rc > 128:
        number = evidence.rc - 128
        if number in (Signals.SIGTERM, Signals.SIGUSR2) and not evidence.records and evidence.attempt is None:
            return Finding("signal", f"stopped by {Signals(number).name} before it could begin")
        return Finding("killed", who)
    if evidence.attempt is None and not evidence.records:
        said = f": {evidence.last_line}" if evidence.last_line else ""
        return Finding("no_start", f"srun ended with {evidence.rc} before Python had begun{said}")
    return Finding("killed" if "Killed" in who else "exception", f"{who}; srun ended with {evidence.rc}")


def is_explained(records: Mapping[int, Mapping[str, Any]]) -> bool:
    """Whether some rank recorded a reason of its own to end, so that those who left no record need not be awaited."""
    return any(one["cause"] not in ("done", *STOPS) and not one.get("lost_rank") for one in records.values())


def killed_ranks(log: str) -> frozenset[int]:
    """Ranks of which srun says that they were killed: they had no time to write a record."""
    found: set[int] = set()
    for _, ranks, how in _TASK_ENDED.findall(log):
        if how.startswith("Killed"):
            for part in ranks.split(","):
                first, _, last = part.partition("-")
                found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def memory_line(log: str) -> str:
    """The line in which Slurm says that it killed for memory; nothing where it did not."""
    found = _OUT_OF_MEMORY.search(log)
    return found[0].strip() if found else ""


def slurm_said(log: str) -> Cause | None:
    """Why Slurm ended the job, as its daemon wrote into the log; "signal" where it gave no reason: cancelled."""
    found = _CANCELLED.findall(log)
    return _SLURM_SAID.get(found[-1], "signal") if found else None
