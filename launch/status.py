"""What became of every stage of a plan: a pure view of the store. Writes nothing."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from launch.claims import is_live, newest
from launch.display import position
from launch.plan import Plan, PlannedStage
from launch.provenance import code_digest
from launch.store import Finished, Store
from vssl.artifacts import StageFolder

State = Literal["done", "reused", "running", "saved", "failed", "cancelled", "waiting"]


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """One stage, as it stands now."""

    name: str
    kind: str
    folder: str  # where it lies, or will lie
    state: State
    reason: str = ""  # of a failure, of a cancellation; a mark on what is done
    step: int = 0
    steps: int = 0  # 0: the stage did not say
    wall_s: float | None = None
    attempts: int = 0
    older_code: bool = False  # the result was made by other code than this
    metrics: Mapping[str, float] = field(default_factory=dict)


def plan_status(plan: Plan, store: Store, now_s: float | None = None) -> list[StageStatus]:
    """The state of every stage, in the plan's order.

    `done` was made by this pipeline, `reused` by another one; `failed` includes a process that died without a word;
    `cancelled` hangs below a failure; `waiting` is all that could still start or has not been asked for.
    """
    finished = store.reusable_stages(plan)
    pipeline = store.pipeline(plan).name
    found: dict[str, StageStatus] = {}
    for stage in plan:
        if stage.name in finished:
            found[stage.name] = _finished_status(stage, finished[stage.name], pipeline)
        else:
            found[stage.name] = _open_status(stage, store, found, time.time() if now_s is None else now_s)
    return list(found.values())


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
    return "resumed under other code" if record["earlier_code"] else ""


def _open_status(stage: PlannedStage, store: Store, above: Mapping[str, StageStatus], now_s: float) -> StageStatus:
    folder = store.stage(stage.folder)
    state, reason = _own_state(folder, now_s)
    if state in ("waiting", "failed", "saved") and (blocking := _blocking(stage, above)):
        state, reason = "cancelled", f"blocked by {', '.join(blocking)}"
    step, steps = position(folder)
    last = newest(folder)
    return StageStatus(
        name=stage.name,
        kind=stage.kind,
        folder=str(folder.root),
        state=state,
        reason=reason,
        step=step,
        steps=steps,
        attempts=0 if last is None else last["token"],
    )


def _own_state(folder: StageFolder, now_s: float) -> tuple[State, str]:
    last = newest(folder)
    if folder.done.exists():
        return "waiting", "its inputs have changed since it was made; it will be redone"
    if last is None:
        return "waiting", ""
    if is_live(last, folder, now_s):
        return "running", ""
    error = last.get("error") or rank_error(folder, last["token"])
    if last.get("outcome") == "saved" and not error:
        return "saved", "stopped by a signal; goes on from its checkpoint"
    return "failed", error or "its process died without a word (killed, out of memory, power cut?)"


def rank_error(folder: StageFolder, token: int) -> str:
    """What a rank of an attempt raised, if one did: rank 0 may have known nothing of it."""
    for path in sorted(folder.logs.glob(f"{token}-rank*.traceback")):
        lines = path.read_text().strip().splitlines()
        return f"{path.stem.partition('-')[2]}: {lines[-1] if lines else 'failed'}"
    return ""


def _blocking(stage: PlannedStage, above: Mapping[str, StageStatus]) -> list[str]:
    """The failed stages above a stage, each named once."""
    culprits: list[str] = []
    for parent in stage.parents:
        if above[parent].state == "failed":
            culprits.append(parent)
        elif above[parent].state == "cancelled":
            culprits.extend(above[parent].reason.removeprefix("blocked by ").split(", "))
    return list(dict.fromkeys(culprits))


def counts(statuses: Sequence[StageStatus]) -> dict[str, int]:
    """State -> number of stages, without the states that do not occur."""
    found: dict[str, int] = {}
    for one in statuses:
        found[one.state] = found.get(one.state, 0) + 1
    return found
