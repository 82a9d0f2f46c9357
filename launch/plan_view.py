"""`action=plan`: the graph as a table, what it asks for, and its longest chain."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launch.identity import PENDING
from launch.plan import Plan, PlannedStage, Reference
from launch.selection import Selection

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class Requests:
    """What a selection asks of a cluster, at the stages' time limits; real use is less."""

    stages: int
    arrays: int
    gpu_hours: float
    cpu_hours: float
    path: tuple[str, ...]  # the chain of stages with the largest sum of limits
    path_hours: float


def requests(plan: Plan, run: Collection[str]) -> Requests:
    """Sum up the stages of a selection."""
    chosen = [stage for stage in plan if stage.name in run]
    hours = {stage.name: stage.resources.timeout_min / 60 for stage in chosen}
    longest: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for stage in chosen:  # parents stand before children
        above = max((name for name in stage.parents if name in longest), key=lambda name: longest[name], default=None)
        before[stage.name] = above
        longest[stage.name] = hours[stage.name] + (longest[above] if above else 0.0)
    last: str | None = max(longest, key=lambda name: longest[name])
    path_hours = longest[last] if last else 0.0
    path: list[str] = []
    while last is not None:
        path.insert(0, last)
        last = before[last]
    return Requests(
        stages=len(chosen),
        arrays=len({stage.element for stage in chosen}),
        gpu_hours=sum(stage.resources.nodes * stage.resources.gpus_per_node * hours[stage.name] for stage in chosen),
        cpu_hours=sum(stage.resources.ranks * stage.resources.cpus_per_task * hours[stage.name] for stage in chosen),
        path=tuple(path),
        path_hours=path_hours,
    )


def print_plan(plan: Plan, selection: Selection, done: Collection[str], console: "Console") -> None:
    """One line for each stage name, its lanes together.

    Args:
        plan: the whole plan.
        selection: what of it is to run; only this is shown.
        done: names of stages that are finished and need not run again.
        console: where to print.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("stage", "kind", "reads", "id", "jobs", "limit", "asks for", "state"):
        table.add_column(header, justify="right" if header in ("jobs", "limit") else "left", no_wrap=header == "stage")
    for element, stages in _by_element(plan, selection):
        first = stages[0]
        finished = sum(stage.name in done and stage.name not in selection.force for stage in stages)
        table.add_row(
            element,
            first.kind,
            ", ".join(_reads(plan, first)),
            first.stage_id if len(stages) == 1 else f"{first.stage_id} ..",
            str(len(stages)),
            _hours(first.resources.timeout_min / 60),
            _asks(first),
            "done" if finished == len(stages) else f"{finished} done" if finished else "",
        )
    console.print(table)
    total = requests(plan, selection.run)
    left_out = len(plan.stages) - total.stages
    console.print(
        f"\n{plan.sweep} at scale {plan.scale}: {_count(total.stages, 'job')} in {_count(total.arrays, 'array')}"
        + (f" ({left_out} left out)" if left_out else "")
        + f"; at their limits {_hours(total.gpu_hours)} of GPU, {_hours(total.cpu_hours)} of cores",
        highlight=False,
    )
    console.print(
        f"critical path, at the limits: {_hours(total.path_hours)}: {' > '.join(total.path)}", highlight=False
    )
    for key, dataset in plan.datasets.items():
        if any(PENDING + ":" + key == reference.id for reference in _references(plan)):
            place = dataset["path"] or ("made on this machine" if dataset["generated"] else "no path given yet")
            console.print(
                f"dataset {dataset['name']} ({place}) is not prepared, so ids are pending; submitting prepares it",
                markup=False,
                highlight=False,
            )


def _by_element(plan: Plan, selection: Selection) -> Iterator[tuple[str, list[PlannedStage]]]:
    grouped: dict[str, list[PlannedStage]] = {}
    for stage in plan:
        if stage.name in selection.run:
            grouped.setdefault(stage.element, []).append(stage)
    yield from grouped.items()


def _reads(plan: Plan, stage: PlannedStage) -> Iterator[str]:
    """`role=stage` of each input; many at once are counted."""
    for role, references in stage.inputs.items():
        parents = dict.fromkeys(reference.stage for reference in references if reference.stage)
        outside = [reference.source for reference in references if reference.source and role != "dataset"]
        names = [plan[name].element for name in parents] + [str(source) for source in outside]
        if len(names) > 2:
            yield f"{role}={len(names)} x {names[0]}"
        elif names:
            yield f"{role}={'+'.join(names)}"
    if stage.after:
        yield f"after {', '.join(dict.fromkeys(plan[name].element for name in stage.after))}"


def _references(plan: Plan) -> Iterator[Reference]:
    for stage in plan:
        yield from stage.inputs.get("dataset", ())


def _asks(stage: PlannedStage) -> str:
    resources = stage.resources
    nodes = f"{resources.nodes} x " if resources.nodes > 1 else ""
    gpus = f"{_count(resources.gpus_per_node, 'GPU')}, " if resources.gpus_per_node else ""
    return f"{nodes}{gpus}{_count(resources.tasks_per_node * resources.cpus_per_task, 'core')}, {resources.mem_gb:g} GB"


def _hours(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:,.0f} h"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
