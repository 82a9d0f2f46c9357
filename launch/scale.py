"""A scale: one patch for each kind and each recipe, so that the same graph runs in days, minutes or seconds.

data: motions_demo            # dataset of the templates that name none
resources: cpu                # what every stage asks for
kinds: {linear: {epochs: 20}}
recipes: {vicc_cross: {epochs: 4}}
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.marked_yaml import load
from vssl.config import ConfigError, nearest
from vssl.stages import STAGES


@dataclass(frozen=True, kw_only=True)
class Scale:
    name: str
    data: str | None = None
    resources: str | None = None
    kinds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


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
            for key, patch in keys[group].mapping(f"`{group}`", known).items():
                patch.mapping(f"the patch of {key}")
                patches[group][key] = patch.plain()
    return Scale(
        name=name,
        data=keys["data"].text("`data`") if "data" in keys else None,
        resources=keys["resources"].text("`resources`") if "resources" in keys else None,
        **patches,
    )
