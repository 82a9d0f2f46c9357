"""A sweep at a scale becomes a plan. Pure: disk enters through two functions that give digests.

Lanes follow the edges between elements one by one. A stage is worked out once for each combination of the axes that
it or its ancestors read, and lanes whose stage turns out equal share it, so a thousand lanes cost little.
"""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.plan import Plan, PlannedStage, Reference
from launch.planning.bindings import refuse_other_backbone, refuse_roles
from launch.planning.grid import Axis, Lane, lanes
from launch.planning.identity import PENDING, SharedParts, identity, stage_id
from launch.planning.parts import refuse_foreign
from launch.planning.resolve import Resolver
from launch.planning.unroll import Element
from launch.planning.wiring import Link, Wiring
from vssl.config import ConfigError, nearest, to_mapping
from vssl.stages import STAGES

_DATASET = "dataset"


@dataclass(slots=True, eq=False)
class _Node:
    """A stage whose name is not known yet: it depends on how many lanes share it."""

    element: Element
    config: Any
    parts: dict[str, list["_Node | Reference"]]  # role -> parents (with `artifacts`) and sources
    artifacts: dict[str, list[str]]
    axes: dict[str, Any]
    id: str
    ids: dict[str, Any]  # role -> what entered the identity
    first_lane: int = -1
    lane_count: int = 0
    after: dict["_Node", None] = field(default_factory=dict)

    def add_parts(self, parts: Mapping[str, list["_Node | Reference"]], artifacts: Mapping[str, list[str]]) -> None:
        """Take what does not decide from another lane, too: a whole is one stage for all lanes of its parts."""
        for role, rule in STAGES[self.element.kind].roles.items():
            for part, artifact in zip(parts.get(role, ()), artifacts.get(role, ())) if not rule.decides else ():
                if part not in self.parts[role]:
                    self.parts[role].append(part)
                    self.artifacts[role].append(artifact)


class Expansion:
    """One use: `Expansion(...).plan()`."""

    def __init__(
        self,
        *,
        sweep: str,
        scale: str,
        elements: tuple[Element, ...],
        wiring: Wiring,
        axes: tuple[Axis, ...],
        resolver: Resolver,
        digest_of: Callable[[str], str | None],
        digest_of_file: Callable[[Path], str],
    ) -> None:
        self._sweep, self._scale = sweep, scale
        self._element = {element.name: element for element in elements}
        self._elements = tuple(self._element[name] for name in wiring.order)
        self._wiring, self._axes, self._resolver = wiring, axes, resolver
        self._digest_of, self._digest_of_file = digest_of, digest_of_file
        self._shared = SharedParts()
        self._sources: dict[int, tuple[Any, Reference]] = {}
        self._files: dict[Path, str] = {}
        self._datasets: dict[str, Mapping[str, Any]] = {}
        self._worked_out: dict[tuple[str, Lane], _Node] = {}
        self._by_digest: dict[str, _Node] = {}
        self._direct = {element.name: self._direct_axes(element) for element in self._elements}
        self._collapsed = {element.name: self._collapsed_axes(element) for element in self._elements}
        self._relevant = self._relevant_axes()

    def plan(self) -> Plan:
        """Every lane of every element.

        Raises:
            ConfigError: an axis that changes nothing, a missing input, a bad config, backbones that do not fit, or two
                names for the same work.
        """
        for axis in self._axes:
            for selector, key in axis.keys:
                self._resolver.check_selector(selector, key, f"grid.{selector}.{key}")
        everything = list(lanes(self._axes))
        with _no_collection():
            return self._expand(everything)

    def _expand(self, everything: list[Lane]) -> Plan:
        for element in self._elements:
            for number, lane in enumerate(everything):
                node = self._node(element, lane)
                node.lane_count += 1
                if node.first_lane < 0:
                    node.first_lane = number
                for name in self._wiring.after[element.name]:
                    node.after[self._node(self._element[name], lane)] = None
        self._refuse_idle_axes()
        return self._named(len(everything))

    def _node(self, element: Element, lane: Lane) -> _Node:
        """The stage of an element in a lane, worked out at its first use."""
        relevant = self._relevant[element.name]
        key = (element.name, tuple(lane[axis] if axis in relevant else -1 for axis in range(len(lane))))
        node = self._worked_out.get(key)
        if node is None:
            node = self._worked_out[key] = self._work_out(element, lane)
        return node

    def _work_out(self, element: Element, lane: Lane) -> _Node:
        kind = STAGES[element.kind]
        direct = self._direct[element.name]
        config = self._resolver.config(element, list(self._lane_settings(element, lane)))
        reads = config.reads() if hasattr(config, "reads") else frozenset(kind.roles)
        axes = {label: value for axis in direct for label, value in self._point(axis, lane)}
        parts: dict[str, list[_Node | Reference]] = {}
        artifacts: dict[str, list[str]] = {}
        ids: dict[str, Any] = {}
        for role, rule in kind.roles.items():
            if role not in reads or rule.unless in parts:
                continue
            found = self._parts(element, role, config, lane)
            if not found:
                if rule.required:
                    raise ConfigError(
                        f"{element.where}: `{element.name}` needs the input `{role}` ({' or '.join(rule.types)}); add "
                        f"inputs: {{{role}: NAME}} with a name that a stage above writes"
                    )
                continue
            if len(found) > 1 and not rule.many:
                raise ConfigError(
                    f"{element.where}: input `{role}` of `{element.name}` takes one artifact, but the collected lanes "
                    f"give {len(found)}; collect by a stage whose input takes many, as kind summary"
                )
            parts[role] = [part for part, _ in found]
            artifacts[role] = [artifact for _, artifact in found]
            part_ids = [part.id if isinstance(part, Reference) else f"{part.id}/{name}" for part, name in found]
            if rule.decides:
                ids[role] = part_ids if rule.many else part_ids[0]
            for part, name in found:
                if isinstance(part, _Node):
                    refuse_other_backbone(element, config, part.element, part.config, name)
                    axes |= {label: value for label, value in part.axes.items() if self._keeps(element, label)}
        refuse_roles(element, config, parts)
        digest = identity(element.kind, kind.version, self._shared.semantic(config), ids)
        same = self._by_digest.get(digest)
        if same is not None and same.element is not element:
            raise ConfigError(
                f"{element.where}: `{element.name}` and `{same.element.name}` ({same.element.where}) are the same "
                "work: equal kind, config and inputs; drop one of them, or read the other's output twice"
            )
        for part in (one for role, ones in parts.items() if not kind.roles[role].decides for one in ones):
            assert isinstance(part, _Node)  # no file is a tree
            refuse_foreign(element, digest, part.element, part.config, part.ids)
        if same is not None:
            same.add_parts(parts, artifacts)
            same.axes = {label: value for label, value in same.axes.items() if axes.get(label, self) == value}
            return same
        pending = any(part.id.startswith(PENDING) for found in parts.values() for part in found)
        node = _Node(element, config, parts, artifacts, axes, stage_id(digest, pending), ids)
        self._by_digest[digest] = node
        return node

    def _parts(self, element: Element, role: str, config: Any, lane: Lane) -> list[tuple["_Node | Reference", str]]:
        """(parent or source, artifact) of a role in a lane, each once, in the order of lanes."""
        if role == _DATASET and role not in self._wiring.links[element.name]:
            return [(self._source(config.data.dataset), "")]
        found: dict[tuple[str, str], tuple[_Node | Reference, str]] = {}
        for link in self._wiring.links[element.name].get(role, ()):
            if link.element is None:
                reference = self._file(link)
                found[(reference.id, "")] = (reference, "")
                continue
            parent = self._element[link.element]
            artifact = link.artifact or ""
            for other in self._collected_lanes(element, lane):
                node = self._node(parent, other)
                found[(node.id, artifact)] = (node, artifact)
        return list(found.values())

    def _source(self, dataset: Any) -> Reference:
        """The dataset as an input: by its digest, or pending under a stable name."""
        if id(dataset) not in self._sources:
            key = dataset.key()
            self._datasets.setdefault(key, to_mapping(dataset))
            digest = self._digest_of(key)
            reference = Reference(id=digest or f"{PENDING}:{key}", type=_DATASET, source=f"dataset:{key}")
            self._sources[id(dataset)] = (dataset, reference)
        return self._sources[id(dataset)][1]

    def _file(self, link: Link) -> Reference:
        assert link.file is not None
        if link.file not in self._files:
            self._files[link.file] = self._digest_of_file(link.file)
        return Reference(id=self._files[link.file], type=link.type, source=f"file:{link.file}")

    def _lane_settings(self, element: Element, lane: Lane) -> Iterator[tuple[str, Any]]:
        """What a lane sets on an element: `all` first, then its template, then itself."""
        for selector in dict.fromkeys(("all", element.template.name, element.name)):
            for axis in self._direct[element.name]:
                for meant, key, value in self._axes[axis].points[lane[axis]]:
                    if meant == selector and self._resolver.reads(element, key):
                        yield key, value

    def _point(self, axis: int, lane: Lane) -> Iterator[tuple[str, Any]]:
        for selector, key, value in self._axes[axis].points[lane[axis]]:
            yield f"{selector}.{key}", value

    def _direct_axes(self, element: Element) -> tuple[int, ...]:
        return tuple(
            number
            for number, axis in enumerate(self._axes)
            if any(element.answers_to(selector) and self._resolver.reads(element, key) for selector, key in axis.keys)
        )

    def _collapsed_axes(self, element: Element) -> frozenset[int]:
        found: set[int] = set()
        for name in element.template.collect:
            meant = {
                number
                for number, axis in enumerate(self._axes)
                if name == "all" or any(name in (key, f"{selector}.{key}") for selector, key in axis.keys)
            }
            key = name.removeprefix("all.")
            if not meant and name != "all" and not any(self._resolver.reads(other, key) for other in self._elements):
                accepted = dict.fromkeys(key for axis in self._axes for _, key in axis.keys)
                raise ConfigError(
                    f"{element.where}: collect: no axis sets `{name}`{nearest(name, accepted)}; axes of this grid: "
                    f"{', '.join(accepted) or 'none'}"
                )
            found |= meant
        return frozenset(found)

    def _collected_lanes(self, element: Element, lane: Lane) -> Iterator[Lane]:
        """The lanes that agree with this one on every axis that the element does not collapse."""
        collapsed = self._collapsed[element.name]
        if not collapsed:
            yield lane
            return
        fixed = [
            Axis(points=axis.points if number in collapsed else axis.points[:1])
            for number, axis in enumerate(self._axes)
        ]
        for position in lanes(tuple(fixed)):
            yield tuple(position[n] if n in collapsed else lane[n] for n in range(len(lane)))

    def _relevant_axes(self) -> dict[str, frozenset[int]]:
        """Axes that can change a stage: those it reads, and those of its ancestors that it does not collapse."""
        found: dict[str, frozenset[int]] = {}
        for element in self._elements:
            parents = {link.element for role in self._wiring.links[element.name].values() for link in role}
            above = frozenset().union(*(found[name] for name in parents if name is not None))
            found[element.name] = (above - self._collapsed[element.name]) | frozenset(self._direct[element.name])
        return found

    def _keeps(self, element: Element, label: str) -> bool:
        collapsed = self._collapsed[element.name]
        return not any(label in self._labels(axis) for axis in collapsed)

    def _labels(self, axis: int) -> list[str]:
        return [f"{selector}.{key}" for selector, key in self._axes[axis].keys]

    def _refuse_idle_axes(self) -> None:
        """An axis with several values along which no stage changes is a mistake, as one over the number of workers."""
        for number, axis in enumerate(self._axes):
            if len(axis.points) < 2:
                continue
            start = tuple(0 for _ in self._axes)
            moved = [start[:number] + (position,) + start[number + 1 :] for position in range(len(axis.points))]
            if all(len({id(self._node(element, lane)) for lane in moved}) == 1 for element in self._elements):
                raise ConfigError(
                    f"grid.{axis.label}: no stage's result depends on it (equal values, or a key that only says how "
                    "work is done); drop the axis, or set it by `stages.`"
                )

    def _named(self, lane_total: int) -> Plan:
        names: dict[int, str] = {}
        nodes = list(self._by_digest.values())
        for node in nodes:
            shared = node.lane_count == lane_total
            names[id(node)] = node.element.name if shared else f"{node.element.name}.{node.first_lane}"
        references: dict[tuple[int, str], Reference] = {}

        def reference(part: _Node | Reference, artifact: str) -> Reference:
            if isinstance(part, Reference):
                return part
            key = (id(part), artifact)
            if key not in references:
                references[key] = Reference(
                    id=f"{part.id}/{artifact}",
                    type=STAGES[part.element.kind].makes[artifact],
                    stage=names[id(part)],
                    artifact=artifact,
                )
            return references[key]

        resources = {element.name: self._resolver.resources(element) for element in self._elements}
        rank = {element.name: place for place, element in enumerate(self._elements)}
        nodes.sort(key=lambda node: (rank[node.element.name], node.first_lane))
        stages = [
            PlannedStage(
                name=names[id(node)],
                template=node.element.template.name,
                element=node.element.name,
                lane=None if node.lane_count == lane_total else node.first_lane,
                axes=node.axes,
                kind=node.element.kind,
                config=self._shared.plain(node.config),
                inputs={
                    role: tuple(reference(part, name) for part, name in zip(parts, node.artifacts[role]))
                    for role, parts in node.parts.items()
                },
                after=tuple(names[id(other)] for other in node.after),
                resources=resources[node.element.name],
                stage_id=node.id,
            )
            for node in nodes
        ]
        return Plan(sweep=self._sweep, scale=self._scale, stages=tuple(stages), datasets=self._datasets)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Planning makes many objects and no cyclic garbage; the collector would walk them all again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
