"""Which stages share one `sbatch`: stages packed into few sparse arrays, and what each array waits for.

Pure. An array's dependency is `aftercorr` on arrays in which every one of its elements has its parent at its own index,
and `afterok` on parents that all of its elements have in common. So every edge is told to Slurm, and an element waits
for its own parents alone. Few arrays need equal indices, and indices are free: a stage whose parents are pending takes
over their index, any other one takes its lane's.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from launch.plan import Plan, PlannedStage, Resources

MAX_INDEX_TEXT = 4000  # characters; Slurm refuses an array whose list of indices is longer than 4,096


@dataclass(frozen=True)
class Place:
    """Where a stage stands: the key of an array of this packing, or the id of an array job in flight; and its index."""

    array: str
    index: int


@dataclass(frozen=True)
class Dependency:
    """What every element of an array waits for: one element of another array, or the one at its own index."""

    type: Literal["afterok", "aftercorr"]
    array: str  # as in Place
    index: int | None  # None for aftercorr


@dataclass(frozen=True, kw_only=True)
class Array:
    """Stages of one element with equal resources, to be submitted at once."""

    key: str  # unique in its packing, and never a number
    element: str
    resources: Resources
    stages: Mapping[int, str]  # index -> stage, ascending
    dependency: tuple[Dependency, ...]

    @property
    def indices(self) -> str:
        """The argument of `--array`."""
        return index_text(self.stages)


def pack(
    plan: Plan,
    wanted: Sequence[str],
    finished: Collection[str],
    in_flight: Mapping[str, Place],
    max_array_size: int = 1001,
) -> list[Array]:
    """Pack stages into arrays.

    Args:
        plan: the whole plan.
        wanted: names of the stages to submit, in any order. Each of their parents is wanted, finished or in flight.
        finished: names of stages that nobody waits for, unless they are wanted again.
        in_flight: name -> place of stages that are queued or run.
        max_array_size: Slurm's MaxArraySize; indices are below it.

    Returns:
        The arrays, parents before children.

    Raises:
        ValueError: a wanted stage is in flight, or has a parent that nothing stands for.
    """
    chosen, over = set(wanted), set(finished)
    if again := sorted(chosen & in_flight.keys()):
        raise ValueError(f"{', '.join(again)}: wanted, and in flight already")
    groups: dict[tuple[str, Resources], list[PlannedStage]] = {}
    pending: dict[str, list[str]] = {}
    for stage in plan:
        if stage.name in chosen:
            groups.setdefault((stage.element, stage.resources), []).append(stage)
            pending[stage.name] = [name for name in stage.parents if name in chosen or name not in over]
    if unknown := sorted(chosen - pending.keys()):
        raise ValueError(f"the plan has no stage {', '.join(unknown)}")
    for name, parents in pending.items():
        if lost := [parent for parent in parents if parent not in chosen and parent not in in_flight]:
            raise ValueError(f"{name} waits for {', '.join(lost)}: neither wanted, nor finished, nor in flight")

    lanes = {lane: rank for rank, lane in enumerate(sorted({stage.lane or 0 for stage in plan}))}
    own = {stage.name: divmod(lanes[stage.lane or 0], max_array_size) for stage in plan if stage.name in chosen}
    places = dict(in_flight)
    numbers: Counter[str] = Counter()
    arrays: list[Array] = []
    for (element, resources), stages in _in_order(groups, pending, places):
        waits = {stage.name: [places[parent] for parent in pending[stage.name]] for stage in stages}
        for members, dependency in _divided(waits, own):
            key = f"{element}/{numbers[element]}"
            numbers[element] += 1
            arrays.append(Array(key=key, element=element, resources=resources, stages=members, dependency=dependency))
            places.update({name: Place(key, index) for index, name in members.items()})
    return arrays


def levels(arrays: Iterable[Array]) -> list[list[Array]]:
    """The arrays of one packing in parts that can be submitted one after the other: each waits for earlier ones alone.

    Args:
        arrays: parents before children.
    """
    depth: dict[str, int] = {}
    found: list[list[Array]] = []
    for array in arrays:
        at = depth[array.key] = 1 + max((depth.get(one.array, -1) for one in array.dependency), default=-1)
        if at == len(found):
            found.append([])
        found[at].append(array)
    return found


def expression(dependency: Sequence[Dependency], job_ids: Mapping[str, str]) -> str:
    """The argument of `--dependency`: "aftercorr:12:14,afterok:15_3"; empty where nothing is waited for.

    Args:
        dependency: of one array.
        job_ids: key -> array job id of the arrays of the same packing that it names.
    """
    terms: dict[str, list[str]] = {}
    for one in sorted(dependency, key=lambda one: one.type):  # the few of aftercorr before the many of afterok
        job = one.array if one.array.isdigit() else job_ids[one.array]
        terms.setdefault(one.type, []).append(job if one.index is None else f"{job}_{one.index}")
    return ",".join(":".join((type_, *jobs)) for type_, jobs in terms.items())


def index_text(indices: Iterable[int]) -> str:
    """Indices as Slurm writes them, even ranges joined: "0-3,7,10-20:5"."""
    found = sorted(indices)
    terms: list[str] = []
    start = 0
    while start < len(found):
        end = start + 1
        while end < len(found) and found[end] - found[end - 1] == found[start + 1] - found[start]:
            end += 1
        if end - start < 3:
            end = start + 1
            terms.append(str(found[start]))
        else:
            step = found[start + 1] - found[start]
            terms.append(f"{found[start]}-{found[end - 1]}" + (f":{step}" if step > 1 else ""))
        start = end
    return ",".join(terms)


def _in_order(
    groups: dict[tuple[str, Resources], list[PlannedStage]],
    pending: Mapping[str, Sequence[str]],
    places: Mapping[str, Place],
) -> Iterator[tuple[tuple[str, Resources], list[PlannedStage]]]:
    """Groups of stages, parents before children; the caller gives each stage of a group its place in between."""

    def is_ready(stage: PlannedStage) -> bool:
        return all(parent in places for parent in pending[stage.name])

    while groups:
        left = len(groups)
        for key in list(groups):
            if all(map(is_ready, groups[key])):
                yield key, groups.pop(key)
        if len(groups) == left:  # elements that wait for each other by turns, or one for itself: a part goes first
            key = next(key for key, stages in groups.items() if any(map(is_ready, stages)))
            stages, groups[key] = groups[key], [stage for stage in groups[key] if not is_ready(stage)]
            yield key, [stage for stage in stages if is_ready(stage)]


def _divided(
    waits: Mapping[str, Sequence[Place]], own: Mapping[str, tuple[int, int]]
) -> Iterator[tuple[dict[int, str], tuple[Dependency, ...]]]:
    """The arrays that the stages of one group need.

    Args:
        waits: stage -> places of its pending parents.
        own: stage -> (chunk, index) that its lane gives it.
    """
    alike: dict[frozenset[tuple[str, int]], list[str]] = {}  # by how many parents a stage has in which array
    for name, places in waits.items():
        alike.setdefault(frozenset(Counter(place.array for place in places).items()), []).append(name)
    for counts, names in alike.items():
        waiting = {name: waits[name] for name in names}
        single = [array for array, count in counts if count == 1 and len(names) > 1]
        ways = [_spread(waiting, own, corresponding) for corresponding in [(), *_aligned(single, waiting)]]
        for members, dependency in min(ways, key=len):
            for part in _short(members):
                yield part, dependency


def _aligned(arrays: Iterable[str], waits: Mapping[str, Sequence[Place]]) -> list[tuple[str, ...]]:
    """Sets of arrays in which each stage has its parents at one common index."""
    wanted = set(arrays)
    columns: dict[str, list[int]] = {}
    for places in waits.values():
        for place in places:
            if place.array in wanted:
                columns.setdefault(place.array, []).append(place.index)
    equal: dict[tuple[int, ...], list[str]] = {}
    for array, column in columns.items():
        equal.setdefault(tuple(column), []).append(array)
    return [tuple(same) for same in equal.values()]


def _spread(
    waits: Mapping[str, Sequence[Place]], own: Mapping[str, tuple[int, int]], corresponding: tuple[str, ...]
) -> list[tuple[dict[int, str], tuple[Dependency, ...]]]:
    """Arrays of stages that wait in some arrays for the parent at their own index, and for all others by name."""
    turns: Counter[tuple[tuple[Place, ...], int, int]] = Counter()
    arrays: dict[tuple[tuple[Place, ...], int, int], dict[int, str]] = {}
    for name, places in waits.items():
        named = tuple(sorted((place for place in places if place.array not in corresponding), key=_position))
        chunk, index = own[name]
        if corresponding:
            chunk, index = 0, next(place.index for place in places if place.array in corresponding)
        turn = turns[named, chunk, index]  # children of one parent, or equal lanes: each in an array of its own
        turns[named, chunk, index] += 1
        arrays.setdefault((named, chunk, turn), {})[index] = name
    correspond = tuple(Dependency("aftercorr", array, None) for array in corresponding)
    return [
        (members, correspond + tuple(Dependency("afterok", place.array, place.index) for place in named))
        for (named, _, _), members in arrays.items()
    ]


def _position(place: Place) -> tuple[str, int]:
    return place.array, place.index


def _short(members: Mapping[int, str]) -> Iterator[dict[int, str]]:
    """An array's stages in ascending order, in parts whose list of indices Slurm accepts."""
    rest = sorted(members.items())
    if len(index_text(members)) > MAX_INDEX_TEXT:
        middle = len(rest) // 2
        yield from _short(dict(rest[:middle]))
        yield from _short(dict(rest[middle:]))
    else:
        yield dict(rest)
