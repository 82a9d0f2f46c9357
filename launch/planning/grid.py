"""The grid: scoped axes, and lanes as their product.

`grid.<selector>.<key>=[values]` is one axis. A list of mappings is one axis too, whose keys move together:
`grid.linear=[{optim.base_lr: 0.1, epochs: 30}, {optim.base_lr: 0.3, epochs: 20}]`.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launch.planning.command_line import Values
from vssl.config import ConfigError

Point = tuple[tuple[str, str, Any], ...]  # (selector, key, value): what one position on an axis sets
Lane = tuple[int, ...]  # position on each axis


@dataclass(frozen=True, kw_only=True)
class Axis:
    points: tuple[Point, ...]

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """(selector, key) of everything that this axis sets."""
        return tuple((selector, key) for selector, key, _ in self.points[0])

    @property
    def label(self) -> str:
        return " + ".join(f"{selector}.{key}" for selector, key in self.keys)


def read_axes(sweep_grid: Any, where: str, line_grid: Values) -> tuple[Axis, ...]:
    """Axes of the sweep and of the command line; the latter replace those that set one of their keys.

    Raises:
        ConfigError: a value that is no list, an empty list, coupled mappings with different keys, a key on two axes.
    """
    from_sweep = _axes("", sweep_grid, f"{where}: grid") if sweep_grid is not None else []
    from_line = [axis for key, value in line_grid for axis in _axes(key, value, "grid")]
    ours = {key for axis in from_line for key in axis.keys}
    axes = [axis for axis in from_sweep if not ours & set(axis.keys)] + from_line
    seen: set[tuple[str, str]] = set()
    for axis in axes:
        for selector, key in axis.keys:
            if (selector, key) in seen:
                raise ConfigError(f"grid: `{selector}.{key}` is on two axes; keep one")
            seen.add((selector, key))
    return tuple(axes)


def lanes(axes: tuple[Axis, ...]) -> Iterator[Lane]:
    """Every combination of positions; the last axis moves fastest. No axis: one lane."""
    return itertools.product(*(range(len(axis.points)) for axis in axes))


def _axes(prefix: str, value: Any, where: str) -> list[Axis]:
    shown = f"{where}.{prefix}" if prefix else where
    if isinstance(value, Mapping):
        return [axis for key, item in value.items() for axis in _axes(_join(prefix, str(key)), item, where)]
    if not isinstance(value, list):
        form = f"'{shown}=[{value}]'" if prefix else "{linear: {optim.base_lr: [0.1, 0.3]}}"
        raise ConfigError(f"{shown} is {value!r}; an axis is a list, as in {form}")
    if not value:
        raise ConfigError(f"{shown} is an empty list; give at least one value, or leave the axis out")
    points = tuple(_point(prefix, item, shown) for item in value)
    if not points[0]:
        raise ConfigError(f"{shown}: an axis sets at least one key")
    if len({tuple(entry[:2] for entry in point) for point in points}) > 1:
        raise ConfigError(f"{shown}: the mappings of a coupled axis set different keys; give each of them all keys")
    return [Axis(points=points)]


def _point(prefix: str, value: Any, shown: str) -> Point:
    found: list[tuple[str, str, Any]] = []
    for key, item in _flat(prefix, value):
        selector, _, rest = key.partition(".")
        if not rest:
            raise ConfigError(
                f"{shown} holds {item!r}, and `{key}` names no key; write grid.STAGE.KEY=[...] or grid.all.KEY=[...]"
            )
        found.append((selector, rest, item))
    return tuple(sorted(found, key=lambda entry: entry[:2]))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(_join(prefix, str(key)), item)
    else:
        yield prefix, value


def _join(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key
