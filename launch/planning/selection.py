"""Parts of a plan: `only=`, `from=`, `until=`, `force=`. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from launch.plan import Plan, PlannedStage
from vssl.config import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Names of stages to run where they are not done, and of those to redo although they are."""

    run: frozenset[str]
    force: frozenset[str] = frozenset()


def select(
    plan: Plan,
    *,
    only: Iterable[str] = (),
    from_: Iterable[str] = (),
    until: Iterable[str] = (),
    force: Iterable[str] = (),
) -> Selection:
    """The stages that a line asks for: those named, those below, those above, all of it at once.

    A selector is a stage (`linear-rgb.7`), else a stage in all its lanes, else a template, else `all`.

    Raises:
        ConfigError: a selector that names nothing, nothing left to run, or a forced stage that is not to run.
    """
    run = frozenset(stage.name for stage in plan)
    if only := tuple(only):
        run &= named(plan, only, "only")
    if from_ := tuple(from_):
        run &= below(plan, named(plan, from_, "from"))
    if until := tuple(until):
        run &= _above(plan, named(plan, until, "until"))
    if not run:
        raise ConfigError("only=, from= and until= together leave no stage; loosen one of them")
    force = tuple(force)
    forced = frozenset() if not force else named(plan, force, "force")
    if force and not forced & run:
        raise ConfigError(f"force={','.join(force)} names no stage that is to run; only=, from= or until= leave it out")
    return Selection(run=run, force=forced & run)


def without_idle(plan: Plan, finished: Collection[str]) -> Plan:
    """A plan without the unfinished stages that would only save work to stages which are finished already."""
    idle: set[str] = set()
    helpers: set[str] = set()
    wanted: set[str] = set()
    for stage in reversed(plan.stages):  # whoever reads a stage comes before it
        if stage.name in helpers and stage.name not in wanted and stage.name not in finished:
            idle.add(stage.name)
        dispensable = stage.dispensable if stage.name in finished else frozenset()
        helpers |= frozenset(stage.parents) if stage.name in idle else dispensable
        wanted |= frozenset() if stage.name in idle else frozenset(stage.parents) - dispensable
    return replace(plan, stages=tuple(_less(stage, idle) for stage in plan if stage.name not in idle))


def without_absent(plan: Plan, run: Collection[str], absent: Collection[str]) -> Plan:
    """A plan without the stages that read, or hang below what reads, a dataset that is not on this machine.

    Where anything that is to run needs one of them, all of them stay.

    Args:
        plan: of everything.
        run: names of the stages that are to run.
        absent: keys of the datasets that are nowhere to be read.
    """
    away = below(plan, frozenset(stage.name for stage in plan if plan.dataset_of(stage) in absent))
    if not away.isdisjoint(_above(plan, frozenset(run))):
        return plan
    return replace(
        plan,
        stages=tuple(stage for stage in plan if stage.name not in away),
        datasets={key: dataset for key, dataset in plan.datasets.items() if key not in absent},
    )


def _less(stage: PlannedStage, idle: Collection[str]) -> PlannedStage:
    inputs = {role: tuple(one for one in ones if one.stage not in idle) for role, ones in stage.inputs.items()}
    return replace(stage, inputs={role: ones for role, ones in inputs.items() if ones})


def named(plan: Plan, selectors: Iterable[str], key: str) -> frozenset[str]:
    """The stages that selectors mean; `key` says in an error where they stood.

    Raises:
        ConfigError: a selector that names nothing.
    """
    found: set[str] = set()
    for selector in selectors:
        meanings = (
            [stage.name for stage in plan if stage.name == selector],
            [stage.name for stage in plan if stage.element == selector],
            [stage.name for stage in plan if stage.template == selector],
            [stage.name for stage in plan if selector == "all"],
        )
        meant = next((names for names in meanings if names), None)
        if meant is None:
            words = dict.fromkeys(word for stage in plan for word in (stage.template, stage.element, stage.name))
            templates = dict.fromkeys(stage.template for stage in plan)
            raise ConfigError(
                f"{key}: no stage is named `{selector}`{nearest(selector, words)}; templates: {', '.join(templates)}; "
                "a stage of one is written as action=plan shows it"
            )
        found.update(meant)
    return frozenset(found)


def below(plan: Plan, start: frozenset[str]) -> frozenset[str]:
    """Some stages, and all that hangs below them."""
    found = set(start)
    for stage in plan:  # parents stand before children
        if not found.isdisjoint(stage.parents):
            found.add(stage.name)
    return frozenset(found)


def _above(plan: Plan, start: frozenset[str]) -> frozenset[str]:
    found = set(start)
    for stage in reversed(plan.stages):
        if stage.name in found:
            found.update(stage.parents)
    return frozenset(found)
