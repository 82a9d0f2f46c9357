"""YAML with the line of every value, so that an error can name the place; numbers as in YAML 1.2 (1e-4 is one)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vssl.config import ConfigError, nearest


# libyaml's where PyYAML was built with it: a sweep that names a thousand stages takes seconds in Python.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader whose floats need no dot."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


@dataclass(frozen=True)
class Marked:
    """A YAML value and where it stands."""

    value: Any  # plain value; for a mapping dict[str, Marked], for a list list[Marked]
    file: Path
    line: int  # 1-based

    def error(self, message: str) -> ConfigError:
        return ConfigError(f"{self.file}:{self.line}: {message}")

    def plain(self) -> Any:
        """The value without its marks."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def mapping(self, what: str, accepted: Iterable[str] | None = None) -> dict[str, "Marked"]:
        """The value as a mapping whose keys are all accepted."""
        if not isinstance(self.value, dict):
            raise self.error(f"{what} is {self.plain()!r}; expected a mapping")
        if accepted is not None:
            accepted = list(accepted)
            for key, item in self.value.items():
                if key not in accepted:
                    raise item.error(
                        f"unknown key `{key}` in {what}{nearest(key, accepted)}; accepted: {', '.join(accepted)}"
                    )
        return self.value

    def items(self, what: str) -> list["Marked"]:
        """The value as a list."""
        if not isinstance(self.value, list):
            raise self.error(f"{what} is {self.plain()!r}; expected a list, as in [{self.plain()}]")
        return self.value

    def text(self, what: str) -> str:
        """The value as a non-empty string."""
        if not isinstance(self.value, str) or not self.value:
            raise self.error(f"{what} is {self.plain()!r}; expected text")
        return self.value


def load(path: Path) -> Marked:
    """Read a YAML file.

    Raises:
        ConfigError: the file is not YAML, holds a key twice, or cannot be read.
    """
    try:
        node = yaml.compose(path.read_text(), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not YAML: {error.problem}") from None
    if node is None:
        return Marked({}, path, 1)
    return _mark(node, path, _Loader(""))


def load_plain(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping, without marks."""
    plain: dict[str, Any] = load(path).plain()
    if not isinstance(plain, dict):
        raise ConfigError(f"{path}: holds {plain!r}; expected a mapping")
    return plain


def _mark(node: yaml.Node, path: Path, loader: yaml.SafeLoader) -> Marked:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Marked] = {}
        for key_node, value_node in node.value:
            key = str(loader.construct_object(key_node, deep=True))
            item = _mark(value_node, path, loader)
            # A block value starts on the line below its key; the key is what a person looks for.
            item = Marked(item.value, path, key_node.start_mark.line + 1)
            if key in found:
                raise item.error(f"`{key}` is given twice; the first is on line {found[key].line}")
            found[key] = item
        return Marked(found, path, line)
    if isinstance(node, yaml.SequenceNode):
        return Marked([_mark(item, path, loader) for item in node.value], path, line)
    return Marked(loader.construct_object(node, deep=True), path, line)
