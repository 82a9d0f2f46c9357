"""Shapes of pipelines: plans of probes in lanes, whose steps take long enough for something to happen meanwhile."""

from dataclasses import replace

from launch.plan import PlannedStage
from tests.launch.conftest import planned

STEP_S = 9.0


def lanes(element: str, count: int, *parents: list[PlannedStage]) -> list[PlannedStage]:
    """A stage in some lanes; of each parent, the stage of the same lane or the only one."""
    found = []
    for lane in range(count):
        above = [stages[lane % len(stages)] for stages in parents]
        one = planned(f"{element}.{lane}", above, seed=100 * ord(element[0]) + lane, steps=2, step_s=STEP_S)
        found.append(replace(one, element=element, template=element, lane=lane if count > 1 else None))
    return found


def chain() -> list[PlannedStage]:
    a = lanes("a", 2)
    b = lanes("b", 2, a)
    return [*a, *b, *lanes("c", 2, b, a)]


def fan() -> list[PlannedStage]:
    a, b = lanes("a", 1), lanes("b", 2)
    c = lanes("c", 2, a, b)
    return [*a, *b, *c, *lanes("d", 1, c[:1], c[1:])]


def grid() -> list[PlannedStage]:
    a = lanes("a", 2)
    return [*a, *lanes("b", 4, a)]


SHAPES = (chain, fan, grid)
