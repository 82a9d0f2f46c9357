"""The table at the end of a pipeline: what was trained, what it is worth beside an untrained network and chance."""

import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.plan import Plan, PlannedStage
from launch.running.pace import duration
from launch.status import StageStatus, plan_status
from launch.store import Store, default_root
from launch.verbs.hours import hours_lines, pipeline_hours
from vssl.artifacts import canonical_json
from vssl.config import build, semantic
from vssl.stages import STAGES

if TYPE_CHECKING:
    from rich.console import Console

COLLAPSE_MARGIN = 0.02  # a loss this close to that of uniform predictions means that nothing was told apart
UNIFORM_ENTROPY = 0.99
USED_SHARE = 0.1  # of the prototypes, or of the videos where these are fewer; below it, clips are hardly told apart
_FILE_WIDTH = 140  # columns where nobody's terminal says how many there are


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """One stage's line; None where a stage has no such number."""

    name: str
    kind: str
    state: str
    reason: str
    wall_s: float | None
    loss_first: float | None = None
    loss_last: float | None = None
    recall_at_1: float | None = None
    top1: float | None = None
    untrained: float | None = None  # the same number of the same evaluation of an untrained network
    chance: float | None = None
    warning: str = ""


def report_rows(plan: Plan, stages: Sequence[StageStatus]) -> list[ReportRow]:
    """The numbers of every stage of a plan, in its order, from the state of all of them."""
    statuses = {one.name: one for one in stages}
    twins = untrained_twins(plan)
    rows = []
    for stage in plan:
        row = _row(statuses[stage.name])
        measure = "recall_at_1" if row.recall_at_1 is not None else "top1"
        if stage.name in twins:
            row = replace(row, untrained=statuses[twins[stage.name]].metrics.get(measure))
        rows.append(replace(row, warning=_collapse(stage, row, statuses[stage.name].metrics)))
    return rows


def _row(status: StageStatus) -> ReportRow:
    metrics = status.metrics
    return ReportRow(
        name=status.name,
        kind=status.kind,
        state=status.state,
        reason=status.reason,
        wall_s=status.wall_s,
        loss_first=metrics.get("loss_first"),
        loss_last=metrics.get("loss_last"),
        recall_at_1=metrics.get("recall_at_1"),
        top1=metrics.get("top1"),
        chance=metrics.get("chance_recall_at_1", metrics.get("chance_top1")),
    )


def untrained_twins(plan: Plan) -> dict[str, str]:
    """stage -> the stage that makes the same evaluation of an untrained network, where the plan has one.

    That is the stage of the same kind, config (its seed aside) and inputs, without `weights`, and with what it starts
    from in their place, if anything; and, for what reads evaluations, the stage that reads the untrained ones.
    """
    alike: dict[str, list[PlannedStage]] = {}
    for stage in plan:
        alike.setdefault(_config_key(stage), []).append(stage)
    twins: dict[str, str] = {}
    for stage in plan:
        candidates = [other for other in alike[_config_key(stage)] if _is_untrained(other, stage, twins)]
        candidates.sort(key=lambda other: other.config.get("seed") != stage.config.get("seed"))
        if candidates:
            twins[stage.name] = candidates[0].name
    return twins


def _config_key(stage: PlannedStage) -> str:
    config = semantic(build(STAGES[stage.kind].config_class(), stage.config))
    return canonical_json([stage.kind, {key: value for key, value in config.items() if key != "seed"}])


def _is_untrained(other: PlannedStage, stage: PlannedStage, twins: Mapping[str, str]) -> bool:
    wanted = {role: ones for role, ones in stage.inputs.items() if role != "weights"}
    instead = {role for role, rule in STAGES[other.kind].roles.items() if rule.unless == "weights"}
    if set(other.inputs) - instead != set(wanted):
        return False
    changed = "weights" in stage.inputs
    for role, ones in wanted.items():
        if len(ones) != len(other.inputs[role]):
            return False
        for mine, theirs in zip(ones, other.inputs[role]):
            if mine.id == theirs.id:
                continue
            if mine.stage is None or twins.get(mine.stage) != theirs.stage or mine.artifact != theirs.artifact:
                return False
            changed = True
    return changed


def _collapse(stage: PlannedStage, row: ReportRow, metrics: Mapping[str, float]) -> str:
    """A warning where a pretraining tells no clip from another."""
    method: Any = getattr(build(STAGES[stage.kind].config_class(), stage.config), "method", None)
    prototypes = getattr(method, "num_prototypes", 0)
    if prototypes > 1 and row.loss_last is not None:
        uniform = math.log(prototypes)
        if abs(row.loss_last - uniform) <= COLLAPSE_MARGIN * uniform:
            return (
                f"{row.name} may have collapsed: its loss ({row.loss_last:.3f}) is that of uniform predictions over "
                f"{prototypes} prototypes (ln {prototypes} = {uniform:.3f}); train longer or look at lr and temperature"
            )
    entropy = metrics.get("score_entropy_last", 0.0)
    if entropy >= UNIFORM_ENTROPY:
        return f"{row.name} may have collapsed: its predictions are uniform (entropy {entropy:.3f} of at most 1)"
    used = metrics.get("effective_prototypes_last", math.inf)
    if used < max(2.0, USED_SHARE * min(prototypes, metrics.get("videos", math.inf))):
        return (
            f"{row.name} may have collapsed: in its last epoch the clips lay at {used:.1f} of {prototypes} prototypes "
            "(effective number); look at prototypes.png and assignments.png of its plots"
        )
    return ""


def print_report(
    plan: Plan,
    store: Store,
    console: "Console | None" = None,
    *,
    pipeline: Path | None = None,
    stages: Sequence[StageStatus] | None = None,
    names: Collection[str] | None = None,
) -> None:
    """Print the table, the warnings, the hours, and where to look further.

    Args:
        plan: the plan.
        store: where results lie.
        console: where to print; None: standard output.
        pipeline: its folder; None: the one that the plan gives it.
        stages: the state of every stage; None: as the store alone knows it.
        names: stages to show; None: all.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = console or Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    names = plan.by_name if names is None else names
    pipeline = pipeline or store.pipeline(plan)
    stages = stages or plan_status(plan, store, pipeline=pipeline.name)
    rows = [row for row in report_rows(plan, stages) if row.name in names]
    title = f"{plan.sweep} at {plan.scale} scale"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    for column in ("state", "time", "loss\nfirst -> last", "R@1", "top-1", "un-\ntrained", "chance"):
        table.add_column(column, justify="left" if column == "state" else "right", no_wrap=True)
    for row in rows:
        loss = "" if row.loss_last is None else f"{_number(row.loss_first)} -> {_number(row.loss_last)}"
        table.add_row(
            row.name,
            row.state,
            "" if row.wall_s is None else duration(row.wall_s),
            loss,
            *(_number(value) for value in (row.recall_at_1, row.top1, row.untrained, row.chance)),
        )
    console.print(table)
    for reason, alike in _by_reason(rows).items():
        _say(console, f"{reason}: {', '.join(alike)}")
    for row in rows:
        if row.warning:
            _say(console, f"WARNING: {row.warning}", style="bold red")
    for line in hours_lines(pipeline_hours(plan, store, pipeline.name, names)):
        _say(console, line)
    _say(console, f"results: {pipeline}")
    elsewhere = "" if store.root == default_root() else f" VSSL_ROOT={store.root}"
    _say(console, f"curves and artifacts: `make ui{elsewhere}` opens the MLflow UI")


def _by_reason(rows: Sequence[ReportRow]) -> dict[str, list[str]]:
    """What there is to say of stages, each thing once."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.reason:
            found.setdefault(f"{row.state}, {row.reason}", []).append(row.name)
    return found


def _say(console: "Console", text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
