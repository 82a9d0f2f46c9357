"""A scale: patches for kinds and for recipes, so that the same graph runs in days, minutes or seconds.

data: {"carl_*": phases_demo, "*": motions_demo}    # by the sweep's name: dataset of the templates that name none
resources: cpu                # what every stage asks for
kinds: {linear: {epochs: 20}}
recipes: {vicc_cross: {epochs: 4}, "fgkvmem_*": {seed: 1}}     # * stands for anything
"""

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.planning.marked_yaml import Marked, load
from vssl.config import ConfigError, nearest
from vssl.stages import STAGES


@dataclass(frozen=True, kw_only=True)
class Scale:
    name: str
    data: Mapping[str, str] = field(default_factory=dict)
    resources: str | None = None
    kinds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def dataset(self, sweep: str) -> str | None:
        """Of the templates of a sweep that name none: that of the first pattern that the sweep's name fits."""
        return next((name for pattern, name in self.data.items() if fnmatch.fnmatchcase(sweep, pattern)), None)

    def settings(self, kind: str, recipe: str | None) -> Iterator[tuple[str, Any]]:
        """(key, value) of the patch of a kind, then of those of its recipe; where two disagree, the later one holds."""
        yield from self.kinds.get(kind, {}).items()
        for pattern, patch in self.recipes.items():
            if recipe and fnmatch.fnmatchcase(recipe, pattern):
                yield from patch.items()


def read_scale(folder: Path, name: str, recipes: list[str]) -> Scale:
    """Read `<folder>/<name>.yaml`.

    Raises:
        ConfigError: no such scale, or a patch for a kind or recipe that does not exist.
    """
    path = folder / f"{name}.yaml"
    accepted = sorted(file.stem for file in folder.glob("*.yaml"))
    if name not in accepted:
        raise ConfigError(f"scale is `{name}`{nearest(name, accepted)}; accepted: {', '.join(accepted)}")
    keys = load(path).mapping("a scale", ("description", "data", "resources", "kinds", "recipes"))
    patches: dict[str, dict[str, Any]] = {"kinds": {}, "recipes": {}}
    for group, known in (("kinds", list(STAGES)), ("recipes", recipes)):
        if group in keys:
            written = keys[group].mapping(f"`{group}`")
            patterns = [key for key in written if fnmatch.filter(known, key)]
            for key, patch in keys[group].mapping(f"`{group}`", [*patterns, *known]).items():
                patch.mapping(f"the patch of {key}")
                patches[group][key] = patch.plain()
    return Scale(
        name=name,
        data=_datasets(keys["data"]) if "data" in keys else {},
        resources=keys["resources"].text("`resources`") if "resources" in keys else None,
        **patches,
    )


def _datasets(written: Marked) -> dict[str, str]:
    """A dataset for all sweeps, or one for each pattern of their names."""
    if not isinstance(written.plain(), Mapping):
        return {"*": written.text("`data`")}
    return {pattern: name.text(f"the dataset of {pattern}") for pattern, name in written.mapping("`data`").items()}
