"""What a stage asks of the machine, by class name: `slurm_templates/resources/<name>.yaml`, or a file of one's own."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from launch.plan import Resources
from launch.planning.marked_yaml import load_plain
from vssl.config import ConfigError, build, changed, nearest

DEFAULT = "cpu"


class ResourceClasses:
    """The classes of some files.

    Args:
        files: class -> file.
        overrides: class -> what it asks for at the site that is submitted to.
    """

    def __init__(self, files: Mapping[str, Path], overrides: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._files = files
        self._overrides = overrides or {}

    @cached_property
    def _classes(self) -> dict[str, Resources]:
        found = {}
        for name, path in self._files.items():
            given = {**load_plain(path), **self._overrides.get(name, {}), "resource_class": name}
            try:
                found[name] = build(Resources, given)
            except ConfigError as error:
                raise ConfigError(f"{path}: {error}") from None
        return found

    def get(self, asked: Any) -> Resources:
        """A class by name, or the default class with the values of a mapping.

        Raises:
            ConfigError: no such class, or a value that cannot be asked for.
        """
        if isinstance(asked, str):
            if asked not in self._classes:
                raise ConfigError(
                    f"resources is `{asked}`{nearest(asked, self._classes)}; accepted: {', '.join(self._classes)}"
                )
            return self._classes[asked]
        if not isinstance(asked, Mapping):
            raise ConfigError(
                f"resources is {asked!r}; expected a mapping, as in {{cpus_per_task: 4}}, or one of "
                f"{', '.join(self._classes)}"
            )
        return changed(self._classes.get(DEFAULT, Resources()), asked, "resources")
