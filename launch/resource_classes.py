"""What a stage asks of the machine, by class name: `slurm_templates/resources/<name>.yaml`."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from launch.marked_yaml import load_plain
from launch.plan import Resources
from vssl.config import ConfigError, build, nearest, to_mapping

DEFAULT = "cpu"


class ResourceClasses:
    """The classes of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _classes(self) -> dict[str, Resources]:
        found = {}
        for path in sorted(self._folder.glob("*.yaml")):
            try:
                found[path.stem] = build(Resources, load_plain(path))
            except ConfigError as error:
                raise ConfigError(f"{path}: {error}") from None
        return found

    def get(self, asked: str | Mapping[str, Any]) -> Resources:
        """A class by name, or the default class with some values replaced."""
        if isinstance(asked, str):
            if asked not in self._classes:
                raise ConfigError(
                    f"resources is `{asked}`{nearest(asked, self._classes)}; accepted: {', '.join(self._classes)}"
                )
            return self._classes[asked]
        return build(Resources, {**to_mapping(self._classes.get(DEFAULT, Resources())), **asked})

    def changed(self, resources: Resources, patch: Mapping[str, Any]) -> Resources:
        return build(Resources, {**to_mapping(resources), **patch})
