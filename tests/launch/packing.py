"""Plans to be packed into arrays, and what Slurm would make of the arrays."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from launch.plan import Plan, PlannedStage, Resources
from launch.slurm.arrays import Array, Place, expression, levels, pack


def stage(
    name: str, parents: Iterable[str] = (), *, element: str = "", lane: int | None = None, mem_gb: float = 8.0
) -> PlannedStage:
    return PlannedStage(
        name=name,
        template=element or name,
        element=element or name,
        lane=lane,
        axes={},
        kind="probe",
        config={},
        inputs={},
        after=tuple(parents),
        resources=Resources(mem_gb=mem_gb),
        stage_id=name,
    )


def plan(*stages: PlannedStage) -> Plan:
    return Plan(sweep="s", scale="smoke", stages=stages, datasets={})


def lanes_of(element: str, lanes: Iterable[int], *parents: str) -> list[PlannedStage]:
    """A stage in some lanes; `{}` in a parent's name stands for the lane."""
    return [
        stage(f"{element}.{lane}", [parent.format(lane) for parent in parents], element=element, lane=lane)
        for lane in lanes
    ]


def packed(
    plan: Plan, finished: Collection[str] = (), in_flight: Mapping[str, Place] | None = None, maximum: int = 1001
) -> list[Array]:
    """Pack all that is neither finished nor in flight, and hold it against what Slurm would make of it."""
    places = in_flight or {}
    wanted = [one.name for one in plan if one.name not in finished and one.name not in places]
    arrays = pack(plan, wanted, finished, places, maximum)
    check(plan, wanted, finished, places, arrays, maximum)
    return arrays


def check(
    plan: Plan,
    wanted: Sequence[str],
    finished: Collection[str],
    in_flight: Mapping[str, Place],
    arrays: Sequence[Array],
    maximum: int = 1001,
) -> None:
    existing: dict[str, set[int]] = {}  # array -> its indices, of those that were submitted before
    places = dict(in_flight)
    for place in in_flight.values():
        existing.setdefault(place.array, set()).add(place.index)
    for array in arrays:
        assert array.key not in existing
        assert not array.key.isdigit(), "taken for the id of an array job"
        assert list(array.stages) == sorted(array.stages)
        assert {(plan[name].element, plan[name].resources) for name in array.stages.values()} == {
            (array.element, array.resources)
        }
        for index, name in array.stages.items():
            assert 0 <= index < maximum or index in {place.index for place in in_flight.values()}
            pending = [parent for parent in plan[name].parents if parent in wanted or parent not in finished]
            assert waited_for(array, index, existing) == {places[parent] for parent in pending}, name
        for index, name in array.stages.items():
            assert name not in places, f"{name} is in two arrays"
            places[name] = Place(array.key, index)
        existing[array.key] = set(array.stages)
    assert places.keys() == {*wanted, *in_flight}
    before: set[str] = set()
    for level in levels(arrays):  # whose arrays are submitted in any order, all at once
        for array in level:
            assert {one.array for one in array.dependency} <= before | {place.array for place in in_flight.values()}
        before |= {array.key for array in level}
    assert before == {array.key for array in arrays}


def waited_for(array: Array, index: int, existing: Mapping[str, Collection[int]]) -> set[Place]:
    """What Slurm lets an element wait for: all of the parent array where that lacks the element's index."""
    found: set[Place] = set()
    for one in array.dependency:
        assert one.array in existing, f"{one.array} is submitted after {array.key}"
        indices = existing[one.array]
        if one.type == "afterok":
            assert one.index is not None
            assert one.index in indices
            found.add(Place(one.array, one.index))
        else:
            assert one.index is None
            found |= {Place(one.array, index)} if index in indices else {Place(one.array, each) for each in indices}
    return found


def shape(arrays: Sequence[Array]) -> list[tuple[str, str, str]]:
    """(element, indices, dependency) of each array; an array's id is its number in the list."""
    ids = {array.key: str(number) for number, array in enumerate(arrays)}
    return [(array.element, array.indices, expression(array.dependency, ids)) for array in arrays]
