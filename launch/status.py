"""What became of every stage of a plan: a pure view of the store and of Slurm's queue. Writes nothing."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from launch.plan import Plan, PlannedStage
from launch.provenance import code_digest
from launch.running.claims import newest
from launch.running.display import position
from launch.running.pace import duration
from launch.slurm.queue_view import STORE_ALONE, QueueView, look
from launch.slurm.standing import State, standing
from launch.store import Finished, Store

if TYPE_CHECKING:
    from launch.slurm.scheduler import Scheduler


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """One stage, as it stands now."""

    name: str
    kind: str
    folder: str  # where it lies, or will lie
    state: State
    reason: str = ""  # of a failure, of a cancellation, of waiting; a mark on what is done
    step: int = 0
    steps: int = 0  # 0: the stage did not say
    wall_s: float | None = None
    attempts: int = 0
    older_code: bool = False  # the result was made by other code than this
    metrics: Mapping[str, float] = field(default_factory=dict)
    blocked_by: tuple[str, ...] = ()  # stages whose end, not for good, keeps it from starting
    job: str = ""  # Slurm's id, <array job>_<index>
    where: str = ""  # nodes, or the host, that it runs on
    cause: str = ""  # how its last job ended, in the batch script's word
    slurm_reason: str = ""  # why its job is pending, in Slurm's word
    expected_s: float | None = None  # when Slurm expects to start it
    started_at_ms: int | None = None  # its newest attempt
    left_out: bool = False  # waits for nothing: the newest line did not select it


def plan_status(
    plan: Plan,
    store: Store,
    view: QueueView = STORE_ALONE,
    now_s: float | None = None,
    *,
    pipeline: str = "",
    finished: Mapping[str, Finished] | None = None,
) -> list[StageStatus]:
    """The state of every stage, in the plan's order.

    `done` was made by this pipeline, `reused` by another one; `queued` is in Slurm's queue; `failed` includes a process
    that died without a word; `cancelled` hangs below a failure, or a person took it out; `waiting` is all that could
    still start or has not been asked for.

    Args:
        plan: the plan.
        store: where results lie.
        view: what Slurm knows; by default nothing is asked.
        now_s: the clock to hold against beats; None: now.
        pipeline: its folder's name; "": the one that the plan gives it.
        finished: what was found finished before the queue was asked; None: nothing was looked up yet.
    """
    known = dict(finished or {})
    pipeline = pipeline or store.pipeline(plan).name
    left_out = frozenset(store.left_out(pipeline))
    found: dict[str, StageStatus] = {}
    for stage in plan:
        if stage.name not in known and (done := store.reusable(stage, known)) is not None:
            known[stage.name] = done
        if stage.name in known:
            found[stage.name] = _finished_status(stage, known[stage.name], pipeline)
        else:
            one = _open_status(stage, store, view, found, time.time() if now_s is None else now_s)
            if one.state == "waiting" and stage.name in left_out:
                one = replace(one, left_out=True, reason="left out of the newest line by only=, from= or until=")
            found[stage.name] = one
    return list(found.values())


def status_now(
    plan: Plan, store: Store, pipeline: str, scheduler: "Scheduler | None" = None
) -> tuple[list[StageStatus], QueueView]:
    """The state of every stage, and what the queue said; at most one squeue, and none where the store alone knows.

    What ends meanwhile is not mistaken: the store is read once more after the queue has answered.
    """
    finished = store.reusable_stages(plan)
    open_folders = {stage.folder for stage in plan if stage.name not in finished}
    view = look(store, open_folders, pipeline, scheduler)
    return plan_status(plan, store, view, pipeline=pipeline, finished=finished), view


def _finished_status(stage: PlannedStage, finished: Finished, pipeline: str) -> StageStatus:
    record: Mapping[str, Any] = finished.record
    return StageStatus(
        name=stage.name,
        kind=stage.kind,
        folder=str(finished.folder.root),
        state="done" if record["pipeline"] == pipeline else "reused",
        reason=code_mark(record),
        wall_s=record["wall_s"],
        attempts=record["attempts"],
        older_code=record["code"] != code_digest(),
        metrics=record["metrics"],
    )


def code_mark(record: Mapping[str, Any]) -> str:
    """What there is to say of a result that this code did not make, or not alone; nothing where it did."""
    if record["code"] != code_digest():
        return "made by other code"
    if record["earlier_code"]:
        return "resumed under other code"
    changed = record.get("earlier_versions")  # older records do not say
    return f"resumed under other packages ({'; '.join(changed)})" if changed else ""


def _open_status(
    stage: PlannedStage, store: Store, view: QueueView, above: Mapping[str, StageStatus], now_s: float
) -> StageStatus:
    folder = store.stage(stage.folder)
    last = newest(folder)
    sent, place = view.sent.get(stage.folder), view.queued.get(stage.folder)
    own = standing(folder, last, sent, None if place is None else place.entry, view, now_s)
    state, reason = own.state, own.reason
    blocking = _blocking(stage, above)
    if blocking and state != "running":
        state, reason = "cancelled", f"blocked by {', '.join(blocking)}"
    elif state == "queued" and (parents := _unfinished(stage, above)):
        reason = f"waits for {', '.join(parents)}"
    step, steps = (0, 0) if last is None else position(folder)
    return StageStatus(
        name=stage.name,
        kind=stage.kind,
        folder=str(folder.root),
        state=state,
        reason=reason,
        step=step,
        steps=steps,
        attempts=0 if last is None else last["token"],
        blocked_by=tuple(blocking) if state == "cancelled" else (),
        job=sent.job if sent is not None else place.entry.job if place is not None else "",
        where=own.where,
        cause=own.cause,
        slurm_reason=own.slurm_reason,
        expected_s=own.expected_s,
        started_at_ms=None if last is None else last["started_at_ms"],
    )


def _unfinished(stage: PlannedStage, above: Mapping[str, StageStatus]) -> list[str]:
    return [parent for parent in stage.parents if above[parent].state not in ("done", "reused")]


def _blocking(stage: PlannedStage, above: Mapping[str, StageStatus]) -> list[str]:
    """The stages above a stage that failed or were taken out by themselves, each named once."""
    culprits: list[str] = []
    for parent in stage.parents:
        if above[parent].blocked_by:
            culprits.extend(above[parent].blocked_by)
        elif above[parent].state in ("failed", "cancelled"):
            culprits.append(parent)
    return list(dict.fromkeys(culprits))


def counts(statuses: Sequence[StageStatus]) -> dict[str, int]:
    """State -> number of stages, without the states that do not occur."""
    found: dict[str, int] = {}
    for one in statuses:
        found[one.state] = found.get(one.state, 0) + 1
    return found


def print_status(title: str, statuses: Sequence[StageStatus]) -> None:
    """The table that a person reads."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for column in ("stage", "state", "step", "time"):
        table.add_column(column, no_wrap=True)
    table.add_column("", overflow="fold")
    for one in statuses:
        step = f"{one.step}/{one.steps}" if one.steps else str(one.step or "")
        took = "" if one.wall_s is None else duration(one.wall_s)
        said = ", ".join(filter(None, (one.reason, f"on {one.where}" if one.state == "running" and one.job else "")))
        table.add_row(one.name, one.state, step, took, Text(said))  # its brackets are its own
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(", ".join(f"{number} {state}" for state, number in counts(statuses).items()))
