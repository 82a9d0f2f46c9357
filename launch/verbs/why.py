"""One sentence for each stage that is not done: what it waits for or died of, and what to do."""

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.running.pace import duration, left, steps_per_s
from launch.slurm.pending import clock, meaning
from launch.slurm.queue_view import QueueView, impatient
from launch.slurm.standing import State
from launch.status import StageStatus
from launch.verbs.targets import Target
from vssl.artifacts import StageFolder

if TYPE_CHECKING:
    from launch.slurm.scheduler import Scheduler

_AGAIN = "run the same line again"
_GOES_ON = "the same line goes on from its checkpoint"
_TODO = {  # cause -> what to do
    "exception": f"mend it and {_AGAIN}",
    "bad_input": f"mend what it names and {_AGAIN}",
    "refused": f"make that input anew (force= on the stage that makes it) or {_AGAIN}",
    "no_start": "its script ended before Python: look at the profile's setup lines, and at `vssl doctor`",
    "out_of_memory": f"give it more memory (stages.{{template}}.resources.mem_gb=) and {_AGAIN}",
    "time_limit": f"raise stages.{{template}}.resources.timeout_min; {_GOES_ON}",
    "hung": f"its log says where its ranks stood; {_GOES_ON}",
    "node_failure": f"{_GOES_ON}; tell the administrators if it is always the same node",
    "killed": f"something killed it from outside, for want of memory perhaps; {_GOES_ON}",
    "preempted": _GOES_ON,
    "signal": _GOES_ON,
}
_ORDER: tuple[State, ...] = ("failed", "cancelled", "saved", "queued", "waiting", "running")
_RANK = re.compile(r"rank (\d+) on \S+: ")
_HOST = re.compile(r" on \S+(?=: )")
_NAMED = 3  # stages that are spelled out before the others are counted


@dataclass(frozen=True)
class Predicate:
    """What is said of a stage, without its name, so that stages of which the same is said share a sentence."""

    verb: tuple[str, str]  # of one stage, of many
    rest: str
    see_log: bool = False
    todo: str = ""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A sentence, and the stages that it is about."""

    state: State
    stages: tuple[str, ...]
    text: str


class Reasons:
    """The sentences of one pipeline.

    Args:
        target: the stages to explain.
        statuses: the state of every stage of its plan.
        view: what the queue said.
        scheduler: is asked for accounting, once, where neither store nor queue know how a job ended; None: Slurm's
            commands on this machine.
    """

    def __init__(
        self,
        target: Target,
        statuses: Sequence[StageStatus],
        view: QueueView,
        scheduler: "Scheduler | None" = None,
        now_s: float | None = None,
    ) -> None:
        self._names = target.stages
        self._pipeline = target.folder.name
        self._plan = target.plan
        self._view = view
        self._scheduler = scheduler
        self._now_s = time.time() if now_s is None else now_s
        self.by_name = {one.name: one for one in statuses}
        self._ends: Mapping[str, str] = {}
        self._crowds: frozenset[str] = frozenset()

    def explain(self) -> list[Explanation]:
        """The sentences; what is done is left out unless a single stage is asked for."""
        chosen = [self.by_name[name] for name in self._names]
        if len(chosen) > 1:
            chosen = [one for one in chosen if one.state in _ORDER]
        self._ends = self._accounting([one for one in chosen if self._is_riddle(one)])
        lanes = Counter(self._plan[one.name].element for one in chosen)
        self._crowds = frozenset(element for element, number in lanes.items() if number > _NAMED)
        groups: dict[tuple[State, Predicate], list[str]] = {}
        for one in chosen:
            groups.setdefault((one.state, self._predicate(one)), []).append(one.name)
        found = [
            Explanation(state=state, stages=tuple(group), text=self._sentence(group, predicate))
            for (state, predicate), group in groups.items()
        ]
        return sorted(found, key=lambda one: _ORDER.index(one.state) if one.state in _ORDER else -1)

    def _sentence(self, names: Sequence[str], predicate: Predicate) -> str:
        who = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        rank = _RANK.search(predicate.rest)
        option = f" --rank {rank[1]}" if rank is not None and rank[1] != "0" else ""
        log = f"see `vssl logs {self._pipeline}/{names[0]}{option}`" if predicate.see_log else ""
        said = f"{who} {predicate.verb[len(names) > 1]}{predicate.rest}"
        return "; ".join(filter(None, (said, log, predicate.todo)))

    def _predicate(self, one: StageStatus) -> Predicate:
        match one.state:
            case "running":
                return Predicate(("runs", "run"), "" if self._is_in_crowd(one) else self._running(one))
            case "queued":
                return self._queued(one)
            case "saved":
                verb = ("was ", "were ") if one.reason.startswith(("cancelled ", "stopped ")) else ("", "")
                return Predicate(verb, one.reason, todo=_AGAIN)
            case "failed":
                template = self._plan[one.name].template
                todo = _TODO.get(one.cause, _TODO["exception"]).format(template=template)
                said = _HOST.sub("", one.reason) if self._is_in_crowd(one) else one.reason
                return Predicate(("failed: ", "failed: "), said + self._end(one), see_log=True, todo=todo)
            case "cancelled":
                return self._cancelled(one)
            case "waiting":
                return self._waiting(one)
            case _:
                made = f"; another pipeline made it: {one.folder}" if one.state == "reused" else ""
                return Predicate(("is done", "are done"), made + (f" ({one.reason})" if one.reason else ""))

    def _running(self, one: StageStatus) -> str:
        where = f" on {one.where}" if one.where else ""
        if one.started_at_ms is None:
            return f"{where}: its job has not begun the stage yet (set-up, or its inputs are looked at)"
        said = f"step {one.step}{f'/{one.steps}' if one.steps else ''}" if one.step else "no step yet"
        pace = steps_per_s(StageFolder(Path(one.folder)).journal, one.started_at_ms, one.step)
        return f"{where} ({said}{left(one.step, one.steps, pace)}){f': {one.reason}' if one.reason else ''}"

    def _queued(self, one: StageStatus) -> Predicate:
        waits = ("waits", "wait")
        if parents := self._unfinished(one):
            return Predicate(waits, f" for {self._parents(one, parents)}")
        if not one.slurm_reason:
            return Predicate(("is queued: ", "are queued: "), one.reason)
        if one.slurm_reason.startswith("BeginTime") and one.expected_s is not None:
            seconds = max(0.0, one.expected_s - self._now_s)  # two minutes after a requeue: worth telling exactly
            left_s = f"{seconds:.0f} s" if seconds < 300 else duration(seconds)
            return Predicate(waits, f" for the begin time, {left_s}", todo="any vssl verb clears that")
        found = meaning(one.slurm_reason)
        when, job = "", one.job
        if self._is_in_crowd(one):
            job = job.partition("_")[0]
        elif one.expected_s is not None:
            when = f"; Slurm expects to start it at {clock(one.expected_s, self._now_s)}"
        rest = f" in the queue: {one.slurm_reason} ({found.text}){when}"
        return Predicate(waits, rest, todo=found.todo.format(job=job))

    def _cancelled(self, one: StageStatus) -> Predicate:
        verb = ("was cancelled", "were cancelled")
        if not one.blocked_by:
            by, cancelled, how = one.reason.partition("cancelled ")
            rest = f" {how}" if cancelled and not by else f": {one.reason}"
            return Predicate(verb, rest + self._end(one), todo=_AGAIN)
        culprits = [self.by_name[name] for name in one.blocked_by]
        failed = self._called(one, [culprit for culprit in culprits if culprit.state == "failed"])
        taken = self._called(one, [culprit for culprit in culprits if culprit.state != "failed"])
        said = [f"{_and(failed)} failed"] if failed else []
        said += [f"{_and(taken)} {'were' if len(taken) > 1 else 'was'} cancelled"] if taken else []
        return Predicate(verb, f" because {' and '.join(said)}", todo=f"mend that and {_AGAIN}" if failed else _AGAIN)

    def _waiting(self, one: StageStatus) -> Predicate:
        if one.left_out:
            return Predicate(("was ", "were "), one.reason, todo="the line without these keys runs all that is left")
        if parents := self._unfinished(one):
            todo = _AGAIN if self._root(one).state == "saved" else ""
            return Predicate(("waits", "wait"), f" for {self._parents(one, parents)}", todo=todo)
        if one.reason:
            return Predicate(("is waiting", "are waiting"), f": {one.reason}", todo=_AGAIN)
        sent = sum(stage.folder in self._view.sent for stage in self._plan)
        done = sum(other.state in ("done", "reused") for other in self.by_name.values())
        total = len(self.by_name)
        if sent:
            rest = f": {sent} of {total} stages were sent to Slurm, {done} are done; the same line sends the rest"
            return Predicate(("is not submitted", "are not submitted"), rest)
        running = sum(other.state == "running" for other in self.by_name.values())
        if running:
            return Predicate(("waits", "wait"), f" for room: {running} of {total} stages are running")
        return Predicate(("was not started yet", "were not started yet"), "", todo="the same line starts it")

    def _unfinished(self, one: StageStatus) -> list[StageStatus]:
        parents = [self.by_name[name] for name in self._plan[one.name].parents]
        return [parent for parent in parents if parent.state not in ("done", "reused")]

    def _root(self, one: StageStatus) -> StageStatus:
        """The first of all unfinished stages above a stage."""
        while above := self._unfinished(one):
            one = above[0]
        return one

    def _is_in_crowd(self, one: StageStatus) -> bool:
        """Whether many lanes of a stage are asked about at once: each by itself would drown the others."""
        return self._plan[one.name].element in self._crowds

    def _called(self, one: StageStatus, others: Sequence[StageStatus]) -> list[str]:
        """Names of what a stage hangs on; in a crowd, without their lanes."""
        if not self._is_in_crowd(one):
            return [other.name for other in others]
        return list(dict.fromkeys(self._plan[other.name].element for other in others))

    def _parents(self, one: StageStatus, parents: Sequence[StageStatus]) -> str:
        """The parents that are not done, and what the first of all unfinished stages above them is doing."""
        names = _and(self._called(one, parents))
        if self._is_in_crowd(one):
            return names
        root = self._root(parents[0])
        said = self._briefly(root)
        return f"{names}, which {said}" if [root] == list(parents) else f"{names}; first of all {root.name} {said}"

    def _briefly(self, one: StageStatus) -> str:
        predicate = self._predicate(one)
        return (predicate.verb[0] + predicate.rest).strip()

    def _end(self, one: StageStatus) -> str:
        return f" ({self._ends[one.job]})" if one.job in self._ends else ""

    def _is_riddle(self, one: StageStatus) -> bool:
        """Whether a job ended and left no word of why."""
        sent = self._view.sent.get(self._plan[one.name].folder)
        if sent is None or sent.cancelled_at_ms is not None or not one.job:
            return False
        return one.state in ("failed", "cancelled") and not one.cause and not one.blocked_by

    def _accounting(self, riddles: Sequence[StageStatus]) -> Mapping[str, str]:
        """job -> how it ended in Slurm's own books, for jobs of which nothing else tells."""
        if not riddles or self._view.silent:
            return {}
        scheduler = self._scheduler or impatient()
        sent = self._view.sent
        since_s = min(one.sent_at_ms for one in sent.values()) / 1000 if sent else self._now_s
        arrays = sorted({one.job.partition("_")[0] for one in riddles})
        rows: Sequence[Mapping[str, Any]] = scheduler.accounting(arrays, since_s)
        whole = {str(row["JobID"]): row["State"] for row in rows}  # of an array of which nothing has started
        states = {one.job: whole[one.job.partition("_")[0]] for one in riddles if one.job.partition("_")[0] in whole}
        states |= {job: row["State"] for row in rows for job in _elements(str(row["JobID"]))}
        return {job: f"Slurm's accounting: {state}" for job, state in states.items()}


def _elements(text: str) -> list[str]:
    """The elements that a row of accounting names: 12_3, or 12_[0-3,7] for those that never started."""
    array, _, indices = text.partition("_")
    found = []
    for part in indices.strip("[]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            found += [f"{array}_{index}" for index in range(int(first), int(last or first) + 1)]
    return found


def _and(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
