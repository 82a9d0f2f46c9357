"""A plan as the text of a Mermaid diagram, for a README or a talk."""

from collections.abc import Collection, Iterator

from launch.plan import Plan, PlannedStage
from launch.planning.selection import Selection


def diagram(plan: Plan, selection: Selection, done: Collection[str]) -> str:
    """One box for each stage name that is to run, its lanes together, and an arrow for each artifact that is read."""
    elements: dict[str, list[PlannedStage]] = {}
    for stage in plan:
        if stage.name in selection.run:
            elements.setdefault(stage.element, []).append(stage)
    boxes = {element: f"s{number}" for number, element in enumerate(elements)}  # a name may be a word of the language
    lines = ["flowchart LR"]
    for element, stages in elements.items():
        lanes = f" x {len(stages)}" if len(stages) > 1 else ""
        over = all(stage.name in done and stage.name not in selection.force for stage in stages)
        lines.append(f'  {boxes[element]}["{element}{lanes}<br/><small>{stages[0].kind}</small>"]{":::done" * over}')
    for element, stages in elements.items():
        for parent, roles in _edges(plan, stages):
            if parent in boxes:
                arrow = f"-- {', '.join(roles)} -->" if roles else "-.->"
                lines.append(f"  {boxes[parent]} {arrow} {boxes[element]}")
    return "\n".join([*lines, "  classDef done fill:#d5e8d4,stroke:#5b8c5a"])


def _edges(plan: Plan, stages: list[PlannedStage]) -> Iterator[tuple[str, list[str]]]:
    """(name of a parent, roles in which it is read), roles empty where only the order counts."""
    roles: dict[str, list[str]] = {}
    for stage in stages:
        for parent in stage.parents:
            found = roles.setdefault(plan[parent].element, [])
            found += [
                role
                for role, references in stage.inputs.items()
                if role not in found and any(one.stage == parent for one in references)
            ]
    yield from roles.items()
