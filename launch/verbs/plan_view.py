"""`action=plan`: the graph as a tree, what it asks for, and its longest chain."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launch.plan import Plan, PlannedStage, Reference
from launch.planning.identity import PENDING
from launch.planning.mermaid import diagram
from launch.planning.selection import Selection
from launch.slurm.arrays import pack
from launch.status import code_mark
from launch.store import Finished
from vssl.data.dataset_config import is_made_here

if TYPE_CHECKING:
    from rich.console import Console

_LINES = ("├─ ", "└─ ", "│  ", "   ")  # one of several below, the last of them, beside a longer one, nothing
_ASCII = ("|- ", "`- ", "|  ", "   ")


@dataclass(frozen=True, kw_only=True)
class Requests:
    """What stages ask of a cluster, at their time limits; real use is less."""

    stages: int
    arrays: int
    gpu_hours: float
    cpu_hours: float
    path: tuple[str, ...]  # the chain of stages with the largest sum of limits
    path_hours: float


def requests(plan: Plan, run: Collection[str]) -> Requests:
    """Sum up the stages that are to run; whatever else they read is finished."""
    chosen = [stage for stage in plan if stage.name in run]
    outside = [stage.name for stage in plan if stage.name not in run]
    hours = {stage.name: stage.resources.timeout_min / 60 for stage in chosen}
    longest, above = _chains(chosen)
    last = max(longest, key=lambda name: longest[name], default=None)
    path_hours = longest[last] if last else 0.0
    path: list[str] = []
    while last is not None:
        path.insert(0, last)
        last = above[last]
    return Requests(
        stages=len(chosen),
        arrays=len(pack(plan, list(hours), outside, {})),
        gpu_hours=sum(stage.resources.nodes * stage.resources.gpus_per_node * hours[stage.name] for stage in chosen),
        cpu_hours=sum(stage.resources.ranks * stage.resources.cpus_per_task * hours[stage.name] for stage in chosen),
        path=tuple(path),
        path_hours=path_hours,
    )


def _chains(stages: Sequence[PlannedStage]) -> tuple[dict[str, float], dict[str, str | None]]:
    """Of each stage: the hours to its end at the limits, and the parent that it waits for longest."""
    longest: dict[str, float] = {}
    above: dict[str, str | None] = {}
    for stage in stages:  # parents stand before children
        last = max((name for name in stage.parents if name in longest), key=lambda name: longest[name], default=None)
        above[stage.name] = last
        longest[stage.name] = stage.resources.timeout_min / 60 + (longest[last] if last else 0.0)
    return longest, above


def print_plan(
    plan: Plan,
    selection: Selection,
    done: Mapping[str, Finished],
    console: "Console",
    *,
    mermaid: bool = False,
) -> None:
    """A tree with one line for each stage name, its lanes together; each below the parent that it waits for longest.

    Args:
        plan: the whole plan.
        selection: what of it is to run; only this is shown.
        done: stages that are finished and need not run again.
        console: where to print.
        mermaid: the text of a Mermaid diagram instead.
    """
    if mermaid:
        console.print(diagram(plan, selection, done), markup=False, highlight=False, soft_wrap=True)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("stage", "kind", "reads", "id", "jobs", "limit", "asks for", "state"):
        table.add_column(header, justify="right" if header in ("jobs", "limit") else "left", no_wrap=header == "stage")
    for guide, stages in _tree(plan, selection, _ASCII if console.options.ascii_only else _LINES):
        first = stages[0]
        table.add_row(
            guide + first.element,
            first.kind,
            ", ".join(_reads(plan, first)),
            first.stage_id if len(stages) == 1 else f"{first.stage_id} ..",
            str(len(stages)),
            _hours(first.resources.timeout_min / 60),
            _asks(first),
            _state(stages, selection, done),
        )
    console.print(table)
    _print_totals(plan, selection, done, console)
    for key, dataset in plan.datasets.items():
        if any(PENDING + ":" + key == reference.id for reference in _references(plan)):
            place = dataset["path"] or ("made on this machine" if is_made_here(dataset) else "no path given yet")
            console.print(
                f"dataset {dataset['name']} ({place}) is not prepared, so ids are pending; submitting prepares it",
                markup=False,
                highlight=False,
            )


def _print_totals(plan: Plan, selection: Selection, done: Mapping[str, Finished], console: "Console") -> None:
    over = {name for name in selection.run - selection.force if name in done}
    left_out = len(plan.stages) - len(selection.run)
    beside = [
        text
        for number, text in ((len(over), "done"), (left_out, "left out"))
        if number
        for text in [f"{number} {text}"]
    ]
    total = requests(plan, selection.run - over)
    console.print(
        f"\n{plan.sweep} at scale {plan.scale}: {_count(total.stages, 'job')} in {_count(total.arrays, 'array')}"
        + (f" ({', '.join(beside)})" if beside else "")
        + f"; at their limits {_hours(total.gpu_hours)} of GPU, {_hours(total.cpu_hours)} of cores",
        highlight=False,
    )
    if total.path:
        console.print(
            f"critical path, at the limits: {_hours(total.path_hours)}: {' > '.join(total.path)}", highlight=False
        )


def _tree(plan: Plan, selection: Selection, lines: Sequence[str]) -> Iterator[tuple[str, list[PlannedStage]]]:
    """(the lines of the tree before a name, stages of that name) from the top to the bottom."""
    one_of, last_one, beside, nothing = lines
    chosen = [stage for stage in plan if stage.name in selection.run]
    by_element: dict[str, list[PlannedStage]] = {}
    for stage in chosen:
        by_element.setdefault(stage.element, []).append(stage)
    _, above = _chains(chosen)
    below: dict[str | None, list[str]] = {}
    for element, stages in by_element.items():
        parent = above[stages[0].name]
        below.setdefault(None if parent is None else plan[parent].element, []).append(element)

    def walk(element: str, guide: str, indent: str) -> Iterator[tuple[str, list[PlannedStage]]]:
        yield guide, by_element[element]
        children = below.get(element, [])
        for child in children:
            last = child == children[-1]
            yield from walk(child, indent + (last_one if last else one_of), indent + (nothing if last else beside))

    for root in below.get(None, []):
        yield from walk(root, "", "")


def _state(stages: Sequence[PlannedStage], selection: Selection, done: Mapping[str, Finished]) -> str:
    """How many of a name's stages are done, and how many of these other code has made."""
    over = [done[stage.name] for stage in stages if stage.name in done and stage.name not in selection.force]
    if not over:
        return ""
    marks = Counter(mark for found in over if (mark := code_mark(found.record)))
    said = "done" if len(over) == len(stages) else f"{len(over)} done"
    return ", ".join([said, *(mark if len(stages) == 1 else f"{number} {mark}" for mark, number in marks.items())])


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
