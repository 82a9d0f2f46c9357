"""How many GPU-hours (core-hours where there was no GPU) a pipeline took, and how many of them were lost, to what.

From attempts, the batch scripts' verdicts and journals; Slurm's accounting is not needed. Lost is the time from the
last durable checkpoint to the end of an attempt that did not finish, and all of an attempt that made no progress.
"""

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from launch.plan import Plan, PlannedStage
from launch.running.batch_folder import BatchFolder
from launch.running.claims import attempts, is_live
from launch.running.machine import gpus_of
from launch.store import Store
from vssl.artifacts import StageFolder, read_json
from vssl.run import read_journal

Unit = Literal["GPU", "core"]
_MS_PER_HOUR = 3_600_000


@dataclass(frozen=True, kw_only=True)
class Spent:
    """One attempt, in hours of its GPUs or cores."""

    unit: Unit
    used: float
    lost: float = 0.0
    cause: str = ""  # why it did not finish


@dataclass(frozen=True)
class Hours:
    """The attempts of a pipeline, summed up."""

    attempts: Sequence[Spent] = field(default_factory=tuple)

    def used(self, unit: Unit) -> float:
        return sum(one.used for one in self.attempts if one.unit == unit)

    def lost(self, unit: Unit) -> dict[str, float]:
        """cause -> hours, the largest first; nothing is lost by a stop that saved, which is named all the same."""
        found: dict[str, float] = {}
        for one in self._stopped(unit):
            found[one.cause] = found.get(one.cause, 0.0) + one.lost
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def stops(self, unit: Unit) -> dict[str, int]:
        """cause -> how many attempts did not finish for it."""
        return dict(Counter(one.cause for one in self._stopped(unit)))

    def _stopped(self, unit: Unit) -> list[Spent]:
        return [one for one in self.attempts if one.unit == unit and one.cause]

    def to_mapping(self) -> dict[str, Any]:
        """unit -> hours used, lost in all, lost by cause, and stops by cause; units of no attempt are left out."""
        units: tuple[Unit, ...] = ("GPU", "core")
        return {
            unit: {
                "used_h": self.used(unit),
                "lost_h": sum(self.lost(unit).values()),
                "lost_by_cause": self.lost(unit),
                "stops": self.stops(unit),
            }
            for unit in units
            if any(one.unit == unit for one in self.attempts)
        }


def pipeline_hours(
    plan: Plan, store: Store, pipeline: str, names: Collection[str], now_s: float | None = None
) -> Hours:
    """What this pipeline's own attempts took; a stage that another pipeline made costs it nothing.

    Args:
        plan: the plan.
        store: where results lie; what stands in stores that are only read cost this pipeline nothing.
        pipeline: its folder's name.
        names: stages to count.
        now_s: the clock to hold against beats; None: now.
    """
    now_s = time.time() if now_s is None else now_s
    aside = _generations(store)
    found: list[Spent] = []
    for stage in plan:
        if stage.name in names:
            found += _stage_hours(stage, store.stage(stage.folder), store, pipeline, now_s)
            for folder in aside.get(stage.folder, ()):
                old = _stage_hours(stage, folder, store, pipeline, now_s)
                found += [Spent(unit=one.unit, used=one.used, lost=one.used, cause="redone") for one in old]
    return Hours(found)


def _generations(store: Store) -> dict[str, list[StageFolder]]:
    """Stage folder name -> its generations that were set aside."""
    found: dict[str, list[StageFolder]] = {}
    stages = store.stage("").root
    for path in stages.iterdir() if stages.is_dir() else ():
        name, mark, _ = path.name.partition("~")
        if mark:
            found.setdefault(name, []).append(StageFolder(path))
    return found


def _stage_hours(stage: PlannedStage, folder: StageFolder, store: Store, pipeline: str, now_s: float) -> list[Spent]:
    history = attempts(folder)
    if not any(one.get("pipeline") == pipeline for one in history):
        return []
    complete = len(history) == 1 and folder.done.exists()  # nothing can be lost: the journal need not be read
    rows = [] if complete else [int(row["time_ms"]) for row in read_journal(folder.journal)]
    found = []
    for one, after in zip_longest(history, history[1:]):
        if one.get("pipeline") == pipeline:
            verdict = _verdict(store, one)
            until_ms = _ended_ms(one, after, folder, verdict)
            running = after is None and is_live(one, folder, now_s)
            lost_ms, cause = (0, "") if running else _lost(one, after, folder, verdict, rows, until_ms)
            unit, number = _devices(stage, one, folder)
            used_ms = max(0, until_ms - one["started_at_ms"])
            found.append(
                Spent(
                    unit=unit,
                    used=number * used_ms / _MS_PER_HOUR,
                    lost=number * min(lost_ms, used_ms) / _MS_PER_HOUR,
                    cause=cause,
                )
            )
    return found


def _verdict(store: Store, attempt: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the batch script said at the end of an attempt's job; nothing for an attempt that Slurm did not run."""
    slurm = attempt.get("slurm")
    if not slurm:
        return {}
    index = int(str(slurm["job"]).rpartition("_")[2])
    return read_json(BatchFolder(store.batches / str(attempt["batch"])).verdict(index, slurm["restart"])) or {}


def _ended_ms(
    attempt: Mapping[str, Any], after: Mapping[str, Any] | None, folder: StageFolder, verdict: Mapping[str, Any]
) -> int:
    """When an attempt ended: as it or its script recorded, else when it was last seen."""
    recorded = [int(found) for found in (attempt.get("ended_at_ms"), verdict.get("at_ms")) if found]
    if recorded:
        return max(recorded)
    if after is not None:
        return int(after.get("predecessor_seen_ms", attempt["started_at_ms"]))
    return _modified_ms(folder.beat)


def _lost(
    attempt: Mapping[str, Any],
    after: Mapping[str, Any] | None,
    folder: StageFolder,
    verdict: Mapping[str, Any],
    rows: Sequence[int],
    until_ms: int,
) -> tuple[int, str]:
    """(milliseconds, cause) of an attempt that is over.

    Journal rows beyond a checkpoint are cut when the stage goes on, so what is left of an attempt was durable; of the
    newest one, which nothing has followed, the checkpoints themselves tell.
    """
    outcome = attempt.get("outcome")
    if outcome == "done":
        return 0, ""
    cause = str(verdict.get("cause") or {"saved": "signal", "failed": "exception"}.get(str(outcome), "killed"))
    began_ms = int(attempt["started_at_ms"])
    if after is None:
        saves = [_modified_ms(path) for path in folder.checkpoints.glob("*")] if folder.checkpoints.is_dir() else []
        durable_ms = max((moment for moment in saves if moment >= began_ms), default=began_ms)
    else:
        durable_ms = max((row for row in rows if began_ms <= row < after["started_at_ms"]), default=began_ms)
    if outcome == "saved" and (durable_ms > began_ms or not rows):  # no rows at all: a kind that keeps no journal
        return 0, cause
    return max(0, until_ms - durable_ms), cause


def _devices(stage: PlannedStage, attempt: Mapping[str, Any], folder: StageFolder) -> tuple[Unit, int]:
    """What an attempt held: on Slurm what it asked for; on one machine what the queue there gave it."""
    resources = stage.resources
    gpus = resources.nodes * resources.gpus_per_node
    if not attempt.get("slurm"):
        record = read_json(folder.environment / f"{attempt['token']}.json") or {}
        gpus = len(gpus_of({"CUDA_VISIBLE_DEVICES": record.get("variables", {}).get("CUDA_VISIBLE_DEVICES", "")}))
    return ("GPU", gpus) if gpus else ("core", int(attempt["ranks"]) * resources.cpus_per_task)


def _modified_ms(path: Path) -> int:
    try:
        return round(1000 * path.stat().st_mtime)
    except FileNotFoundError:
        return 0


def hours_lines(hours: Hours) -> list[str]:
    """What a person reads: one line for GPUs, one for cores, where there were any."""
    lines = []
    for unit, one in hours.to_mapping().items():
        causes = ", ".join(
            f"{one['stops'][cause]} x {cause.replace('_', ' ')}: {_said(number)}"
            for cause, number in one["lost_by_cause"].items()
        )
        lost = f"{_said(one['lost_h'])} of them lost" + (f" ({causes})" if causes else "")
        lines.append(f"{unit}-hours: {_said(one['used_h'])} used, {lost}")
    return lines


def _said(hours: float) -> str:
    """Two or three figures are enough."""
    if not hours:
        return "none"
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}" if hours >= 1 else f"{hours:.2g}"
