"""Hydra, at plan time only, and only here: its override grammar and its config groups.

A kind's config is composed once for each choice of groups and handed on as a plain mapping; everything after that is
patching plain mappings. `@hydra.main` is not used: it would write `outputs/`, refuse undeclared `grid.x=`, and look
for relative folders from the caller's working directory.
"""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from launch.planning.marked_yaml import load_plain
from vssl.config import ConfigError, nearest

NOT_A_GROUP = "scale"  # a folder of configs/ with patches of its own form (launch.planning.scale)

_parser = OverridesParser.create()
_parsed: dict[str, tuple[str, Any]] = {}  # the grammar costs milliseconds a line, and rounds repeat lines


def parse_override(text: str) -> tuple[str, Any]:
    """(dotted key, typed value) of one `key=value` in Hydra's grammar.

    Raises:
        ConfigError: not in the grammar, with the quoting that would be.
    """
    if text not in _parsed:
        _parsed[text] = _parse(text)
    return _parsed[text]


def _parse(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if text.startswith(("~", "+")):
        raise ConfigError(f"`{text}`: nothing is added or deleted on this line; write key=value")
    if not equals or not key:
        raise ConfigError(f"`{text}` is not key=value; write it as in sweep=vicc_cross or stages.linear.epochs=20")
    digit = next((part for part in key.split(".")[:2] if re.match(r"\d", part)), None)
    if digit is not None:
        raise ConfigError(f"`{text}`: `{digit}` starts with a digit, which a key cannot; names start with a letter")
    if "${" in value:
        raise ConfigError(f"`{text}`: `${{...}}` is not looked up here; give the value itself")
    try:
        parsed = _parser.parse_override(text)
    except HydraException:
        if value.count("[") != value.count("]"):
            advice = f"close the bracket, and quote the whole for the shell, as in '{key}=[a,b]'"
        else:
            advice = (
                f"a value with = {{ }} ~, quotes or letters beyond ASCII in it is quoted twice: {_quoted(key, value)}"
            )
        raise ConfigError(f"`{text}` cannot be read; {advice}") from None
    if parsed.is_sweep_override():
        raise ConfigError(f"`{text}`: a list has brackets; write '{key}=[{value}]'")
    if parsed.type != OverrideType.CHANGE or parsed.package is not None:
        raise ConfigError(f"`{text}` is not key=value")
    return parsed.key_or_group, parsed.value()


def _quoted(key: str, value: str) -> str:
    """The word to type in a shell for any text as value: quoted for Hydra, and once more for the shell."""
    # Before a quote and at the end, and only there, backslashes are Hydra's own.
    inner = re.sub(r'(\\*)("|\Z)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value)
    return shlex.quote(f'{key}="{inner}"')


class Composer:
    """The configs of one folder: `<kind>.yaml` files, and groups as folders of options."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        if not self._folder.is_dir():
            raise ConfigError(
                f"no folder {self._folder}: this copy of the code has no configs; run from a checkout, or install it "
                "with `pip install -e`"
            )
        self.groups = frozenset(
            path.name for path in self._folder.iterdir() if path.is_dir() and path.name != NOT_A_GROUP
        )
        self._composed: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, Any]] = {}
        self._groups_of: dict[str, frozenset[str]] = {}

    def options(self, group: str) -> list[str]:
        return sorted(path.stem for path in (self._folder / group).glob("*.yaml"))

    def groups_of(self, kind: str) -> frozenset[str]:
        """The groups that a kind's config has a place for."""
        if kind not in self._groups_of:
            defaults = load_plain(self._folder / f"{kind}.yaml").get("defaults", [])
            named = (next(iter(entry)) for entry in defaults if isinstance(entry, dict))
            self._groups_of[kind] = frozenset(name.removeprefix("optional ") for name in named)
        return self._groups_of[kind]

    def compose(self, kind: str, choices: Mapping[str, str]) -> dict[str, Any]:
        """The plain config of a kind for a choice of groups. The same object is handed out again: do not change it.

        Raises:
            ConfigError: an unknown option, or a group that the kind has no place for.
        """
        key = (kind, tuple(sorted(choices.items())))
        if key not in self._composed:
            for group, option in choices.items():
                self._check(kind, group, option)
            overrides = [f"{group}={option}" for group, option in sorted(choices.items())]
            try:
                with initialize_config_dir(config_dir=str(self._folder), version_base="1.3"):
                    composed = compose(config_name=kind, overrides=overrides)
                plain = OmegaConf.to_container(composed, resolve=True)
            except (HydraException, OmegaConfBaseException) as error:
                raise ConfigError(f"{self._folder / kind}.yaml with {overrides}: {error}") from None
            assert isinstance(plain, dict)
            self._composed[key] = {str(name): value for name, value in plain.items()}
        return self._composed[key]

    def _check(self, kind: str, group: str, option: str) -> None:
        accepted = self.groups_of(kind)
        if group not in accepted:
            raise ConfigError(
                f"`{group}={option}`: kind {kind} has no group `{group}`{nearest(group, accepted)}; accepted: "
                f"{', '.join(sorted(accepted)) or 'none'}"
            )
        options = self.options(group)
        if option not in options:
            folder = "; a folder of videos has a `/` in it, as ./videos" if group == "data" else ""
            raise ConfigError(
                f"{group} is `{option}`{nearest(option, options)}; accepted: {', '.join(options)}{folder}"
            )
