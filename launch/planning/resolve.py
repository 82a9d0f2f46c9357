"""Layers to configs: configs < folder of a dataset < recipe < template block < scale < `stages.` of the line < grid.

In any layer, a key that is a group of configs/ with a name as its value chooses an option of that group; everything
else patches values. All choices are known before Hydra composes, so a higher layer's choice never wipes out a value.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from launch.compose import Composer, parse_override
from launch.plan import Resources
from launch.planning.command_line import Values
from launch.planning.resource_classes import DEFAULT, ResourceClasses
from launch.planning.scale import Scale
from launch.planning.unroll import Element
from vssl.config import ConfigError, build, changed, keys, merged, nearest
from vssl.stages import STAGES

Setting = tuple[str, Any]  # (dotted key, value)


class Resolver:
    """Configs and resources of elements, with and without the values of a lane."""

    def __init__(
        self,
        elements: Iterable[Element],
        *,
        composer: Composer,
        classes: ResourceClasses,
        scale: Scale,
        data: str | None,
        folders: Mapping[str, Path],
        stages: Values,
    ) -> None:
        self._composer = composer
        self._classes = classes
        self._scale = scale
        self._data = data
        self._folders = folders
        self._elements = tuple(elements)
        self._keys = {kind: keys(STAGES[kind].config_class()) for kind in {element.kind for element in self._elements}}
        self._line = self._split_by_selector(stages)
        self._bases: dict[tuple[str, tuple[Setting, ...]], dict[str, Any]] = {}
        self._first: dict[tuple[str, tuple[Setting, ...], tuple[str, ...]], Any] = {}

    def reads(self, element: Element, key: str) -> bool:
        """Whether an element's config has a place for a key, or for a group."""
        if key in self._composer.groups and key in self._composer.groups_of(element.kind):
            return True
        known = self._keys[element.kind]
        if key in known:
            return True
        parent = key.rpartition(".")[0]  # entries of a free mapping, as data.dataset.lists.train
        return parent in known and not any(other.startswith(f"{parent}.") for other in known)

    def check_selector(self, selector: str, key: str, source: str) -> None:
        """Refuse a setting that reaches nothing.

        Raises:
            ConfigError: no stage answers to the selector, or none of those that do has the key.
        """
        reached = self._reached(selector, source)
        if not any(self.reads(element, key) for element in reached):
            kinds = dict.fromkeys(element.kind for element in reached)
            accepted = set().union(*(self._keys[kind] | self._composer.groups_of(kind) for kind in kinds))
            raise ConfigError(
                f"{source}: no stage of `{selector}` reads `{key}`{nearest(key, accepted)}; kinds reached: "
                f"{', '.join(kinds)}; top-level keys there: "
                f"{', '.join(sorted(name for name in accepted if '.' not in name))}"
            )

    def config(self, element: Element, lane: Iterable[Setting] = ()) -> Any:
        """The config object of an element, with the values that a lane sets.

        Raises:
            ConfigError: names the stage, the key, the value and what is accepted.
        """
        choices, values = self._split_choices(lane)
        group_choices = tuple(sorted(choices.items()))
        patch = _nested(values)
        form = (element.name, group_choices, tuple(key for key, _ in values))
        config_class = STAGES[element.kind].config_class()
        try:
            if form in self._first:
                return changed(self._first[form], patch)
            plain = merged(config_class, self._base(element, choices), patch)
            self._first[form] = build(config_class, plain)
        except ConfigError as error:
            raise ConfigError(f"stage `{element.name}` ({element.where}): {error}") from None
        return self._first[form]

    def resources(self, element: Element) -> Resources:
        asked = self._scale.resources or element.template.resources or DEFAULT
        try:
            found = self._classes.get(asked)
            for key, value in self._line_settings(element):
                if key == "resources":
                    found = self._classes.get(value)
                elif key.startswith("resources."):
                    found = changed(found, {key.removeprefix("resources."): value}, "resources")
        except ConfigError as error:
            raise ConfigError(f"stage `{element.name}` ({element.where}): {error}") from None
        return found

    def _base(self, element: Element, lane_choices: Mapping[str, str]) -> dict[str, Any]:
        """The plain config below the lane's values, for a choice of groups."""
        key = (element.name, tuple(sorted(lane_choices.items())))
        if key in self._bases:
            return self._bases[key]
        groups = self._composer.groups_of(element.kind)
        block = self._block(element)
        line = [(name, value) for name, value in self._line_settings(element) if name.partition(".")[0] != "resources"]
        recipe = {**self._split_choices(block)[0], **self._split_choices(line)[0], **lane_choices}.get("recipe")
        scale = [*self._scale.settings(element.kind, recipe)]
        choices: dict[str, str] = {}
        if self._data is not None and "data" in groups:
            choices["data"] = self._data
        patches: list[dict[str, Any]] = []
        for layer in (block, scale, line):
            chosen, values = self._split_choices(layer)
            choices |= chosen
            patches += [_nested([value]) for value in values]
        choices |= lane_choices
        folder = choices.pop("data") if "/" in choices.get("data", "") else None
        plain = self._composer.compose(element.kind, choices)
        if folder is not None:
            path = Path(folder).expanduser()
            if not path.is_absolute():
                raise ConfigError(f"data is `{folder}`; give an absolute folder (only `data=` itself takes others)")
            dataset = {"name": path.name, "path": str(path), "layout": "auto"}
            plain = {**plain, "data": {**plain["data"], "dataset": dataset}}
        elif "data" in groups and (place := self._folders.get(plain["data"]["dataset"]["name"])):
            dataset = {**plain["data"]["dataset"], "path": str(place)}
            plain = {**plain, "data": {**plain["data"], "dataset": dataset}}
        for patch in patches:
            plain = merged(STAGES[element.kind].config_class(), plain, patch)
        self._bases[key] = plain
        return plain

    def _block(self, element: Element) -> list[Setting]:
        """The template's own `config:` lines."""
        try:
            return [parse_override(text) for text in element.config]
        except ConfigError as error:
            raise ConfigError(f"config: {error}") from None

    def _line_settings(self, element: Element) -> Iterator[Setting]:
        """What `stages.` says of an element: `all` first, then its template, then itself."""
        for selector in dict.fromkeys(("all", element.template.name, element.name)):
            for key, value in self._line.get(selector, ()):
                if selector != "all" or key.partition(".")[0] == "resources" or self.reads(element, key):
                    yield key, value

    def _split_by_selector(self, stages: Values) -> dict[str, list[Setting]]:
        found: dict[str, list[Setting]] = {}
        for path, value in stages:
            selector, _, key = path.partition(".")
            settings = list(value.items()) if not key and isinstance(value, Mapping) else [(key, value)]
            for name, item in settings:
                if not name:
                    raise ConfigError(f"stages.{path} is {value!r}; write stages.{selector}.KEY=VALUE")
                if name.partition(".")[0] == "resources":
                    self._reached(selector, f"stages.{path}")
                else:
                    self.check_selector(selector, name, f"stages.{selector}.{name}")
                found.setdefault(selector, []).append((name, item))
        return found

    def _reached(self, selector: str, source: str) -> list[Element]:
        reached = [element for element in self._elements if element.answers_to(selector)]
        if not reached:
            names = dict.fromkeys(name for item in self._elements for name in (item.name, item.template.name))
            raise ConfigError(
                f"{source}: no stage is named `{selector}`{nearest(selector, names)}; accepted: all, {', '.join(names)}"
            )
        return reached

    def _split_choices(self, settings: Iterable[Setting]) -> tuple[dict[str, str], list[Setting]]:
        """Group choices, and the settings that remain."""
        choices: dict[str, str] = {}
        values: list[Setting] = []
        for key, value in settings:
            if key in self._composer.groups and not isinstance(value, Mapping):
                if not isinstance(value, str):
                    options = ", ".join(self._composer.options(key))
                    raise ConfigError(f"`{key}` is {value!r}; expected a mapping of its keys, or one of {options}")
                choices[key] = value
            else:
                values.append((key, value))
        return choices, values


def _nested(settings: Iterable[Setting]) -> dict[str, Any]:
    """{"a.b": 1} as {"a": {"b": 1}}; keys inside mapping values may be dotted too."""
    found: dict[str, Any] = {}
    for key, value in settings:
        *folders, last = key.split(".")
        place = found
        for folder in folders:
            if not isinstance(place.get(folder), dict):
                place[folder] = {}
            place = place[folder]
        plain = _nested(value.items()) if isinstance(value, Mapping) else value
        if isinstance(plain, dict) and isinstance(place.get(last), dict):
            place[last] = {**place[last], **plain}
        else:
            place[last] = plain
    return found
