"""Packing of drawn plans: every edge is told to Slurm exactly, whatever the plan."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from launch.plan import Plan, PlannedStage
from launch.slurm.arrays import Place, pack
from tests.launch.packing import check, packed, plan, stage


@st.composite
def grids(draw: st.DrawFn) -> Plan:
    """Sweeps as they are written: elements that read some of two axes, follow their parents' lanes or collect them."""
    sizes = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    lanes = list(itertools.product(*map(range, sizes)))
    reads: list[tuple[bool, bool]] = []
    stages: dict[str, PlannedStage] = {}
    names: dict[tuple[int, tuple[int, int]], str] = {}
    for number in range(draw(st.integers(1, 6))):
        axes = draw(st.tuples(st.booleans(), st.booleans()))
        parents = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        kinds = draw(st.integers(1, 2))
        for lane, position in enumerate(lanes):
            mine = (position[0] * axes[0], position[1] * axes[1])
            if (number, mine) in names:
                continue
            above = {
                names[parent, point]
                for parent in parents
                for point in [key for other, key in names if other == parent]
                if all(at == at_mine for at, at_mine, a, b in zip(point, mine, reads[parent], axes) if a and b)
            }
            name = f"e{number}.{lane}"
            names[number, mine] = name
            stages[name] = stage(name, sorted(above), element=f"e{number}", lane=lane, mem_gb=1 + lane % kinds)
        reads.append(axes)
    return plan(*stages.values())


@st.composite
def tangles(draw: st.DrawFn) -> Plan:
    """Graphs that no sweep makes: any edge, any element, lanes that occur twice."""
    stages: list[PlannedStage] = []
    for number in range(draw(st.integers(1, 9))):
        parents = draw(st.sets(st.sampled_from(stages).map(lambda one: one.name), max_size=4)) if stages else set()
        element = draw(st.sampled_from("abc"))
        stages.append(stage(f"s{number}", sorted(parents), element=element, lane=draw(st.integers(0, 12))))
    return plan(*stages)


@settings(max_examples=300)
@given(grids(), st.sampled_from((3, 1001)))
def test_every_edge_of_a_sweep_is_told_to_slurm_exactly(whole: Plan, maximum: int) -> None:
    packed(whole, maximum=maximum)


@settings(max_examples=300)
@given(st.one_of(grids(), tangles()), st.data())
def test_every_edge_is_finished_or_told_to_slurm_exactly(whole: Plan, data: st.DataObject) -> None:
    states = {one.name: data.draw(st.sampled_from(("wanted", "wanted", "finished", "in flight"))) for one in whole}
    flying = [name for name, state in states.items() if state == "in flight"]
    places = data.draw(
        st.lists(
            st.builds(Place, st.sampled_from(("7", "12", "31")), st.integers(0, 15)),
            min_size=len(flying),
            max_size=len(flying),
            unique=True,
        )
    )
    finished = {name for name, state in states.items() if state == "finished"}
    maximum = data.draw(st.sampled_from((3, 5, 1001)))
    again = data.draw(st.sets(st.sampled_from(sorted(finished)))) if finished else set()
    in_flight = dict(zip(flying, places))
    wanted = data.draw(st.permutations([name for name, state in states.items() if state == "wanted" or name in again]))
    arrays = pack(whole, wanted, finished, in_flight, maximum)
    check(whole, wanted, finished, in_flight, arrays, maximum)
    assert arrays == pack(whole, sorted(wanted), finished, in_flight, maximum), "the order of the names says nothing"
