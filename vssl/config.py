"""Plain mappings to nested frozen dataclasses and back, strictly.

A config class is a frozen, keyword-only dataclass made of plain values, tuples, string-keyed mappings, other config
classes, and unions of config classes told apart by a `name: Literal[...]` field. What is not understood is an error
that offers the nearest right key. The same classes decide identity: `semantic` leaves out whatever cannot change a
stage's result, and whatever was added later and still has its neutral value.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING
from typing import Any, TypeVar

T = TypeVar("T")

_MISSING: Any = object()
_PLAIN = frozenset({str, int, float, bool})


class ConfigError(ValueError):
    """A config value that a person wrote and that cannot be used; the message says what to write instead."""


def knob(
    default: Any = MISSING,
    *,
    doc: str,
    semantic: bool = True,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    since: str | None = None,
    neutral: Any = _MISSING,
    implied: bool = False,
) -> Any:
    """A config field with its documentation.

    Args:
        default: the one place where the default is written; leave out for a field that must be given.
        doc: meaning and unit.
        semantic: whether the value can change the result of a stage; if not, it stays out of the stage id.
        at_least, above, at_most: what a number, or each number of a list, is held to.
        since: version that added the field after its kind was first released.
        neutral: the value that behaves like the time before the field existed; there the field stays out of the id.
        implied: of a `name`: mappings without one mean this member of a union, the only one there once was.
    """
    metadata = {"doc": doc, "semantic": semantic, "bounds": (at_least, above, at_most), "implied": implied}
    if (since is None) != (neutral is _MISSING):
        raise TypeError("a later field needs both `since` and `neutral`, so that old stage ids stay as they are")
    if since is not None:
        metadata |= {"since": since, "neutral": neutral}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def nested(config_class: type, *, doc: str, semantic: bool = True) -> Any:
    """A field that holds another config class, at its defaults unless given."""
    return dataclasses.field(default_factory=config_class, metadata={"doc": doc, "semantic": semantic})


def nearest(word: str, accepted: Iterable[str]) -> str:
    """' (did you mean `x`?)' where one of the accepted words is close, else nothing."""
    close = difflib.get_close_matches(word, list(accepted), n=1, cutoff=0.6)
    return f" (did you mean `{close[0]}`?)" if close else ""


def refuse_remainder(key: str, size: int, unit_key: str, unit: int | None) -> None:
    """
    Raises:
        ValueError: a size is no multiple of a unit, if there is one.
    """
    if unit and size % unit:
        fitting = [n for n in (size - size % unit, size - size % unit + unit) if n]
        raise ValueError(
            f"{key} is {size}, not a multiple of {unit_key} ({unit}); set {key} to {' or '.join(map(str, fitting))}"
        )


def build(config_class: type[T], mapping: Mapping[str, Any], path: str = "") -> T:
    """Make a config object from a plain mapping.

    Raises:
        ConfigError: unknown key, missing key, wrong type, or a value that the class itself refuses.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{path or 'config'}: expected a mapping, got {mapping!r}")
    fields = _fields(config_class)
    _refuse_unknown(mapping, fields, path)
    values: dict[str, Any] = {}
    for name, (field, annotation) in fields.items():
        where = f"{path}.{name}" if path else name
        if name in mapping:
            values[name] = _bounded(field, _convert(annotation, mapping[name], where), where)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"`{where}` is missing: {field.metadata.get('doc', 'it has no default')}")
    try:
        return config_class(**values)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from None


def merged(config_class: type, mapping: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A plain mapping with a patch on top, unchecked: `build` checks the result once all patches are in.

    Mappings merge key by key. Where a patch names another member of a union, the old member's values go.
    """
    result = dict(mapping)
    fields = _fields(config_class)
    for key, value in patch.items():
        members = _config_classes(fields[key][1]) if key in fields else []
        old = result.get(key)
        if not (members and isinstance(value, Mapping) and isinstance(old, Mapping)):
            result[key] = value
        elif len(members) == 1:
            result[key] = merged(members[0], old, value)
        elif value.get("name", old.get("name")) != old.get("name"):
            result[key] = dict(value)
        else:
            result[key] = merged(_by_name(members).get(old.get("name"), members[0]), old, value)
    return result


def changed(config: T, patch: Mapping[str, Any], path: str = "") -> T:
    """A copy of a config with some values replaced, checked as `build` does; untouched parts are shared.

    Equals building the merged mapping, at a tenth of the time: what makes a thousand lanes cheap.
    """
    fields = _fields(type(config))
    _refuse_unknown(patch, fields, path)
    values: dict[str, Any] = {}
    for key, value in patch.items():
        where = f"{path}.{key}" if path else key
        (field, annotation), old = fields[key], getattr(config, key)
        merges = isinstance(value, Mapping) and dataclasses.is_dataclass(old)
        if merges and len(_config_classes(annotation)) > 1:
            merges = value.get("name", old.name) == old.name
        values[key] = (
            changed(old, value, where) if merges else _bounded(field, _convert(annotation, value, where), where)
        )
    try:
        return dataclasses.replace(config, **values)  # type: ignore[type-var]
    except ValueError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from None


def to_mapping(config: Any, part: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """The whole config as plain values: dicts, lists, numbers, strings, booleans and None.

    `part` converts nested configs, for a caller who remembers those that many configs share.
    """
    return {name: _plain(getattr(config, name), part or to_mapping) for name in _fields(type(config))}


def semantic(config: Any, part: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """The part of a config that decides a stage's result, and so its identity; `part` as in `to_mapping`."""
    kept: dict[str, Any] = {}
    for name, (field, _) in _fields(type(config)).items():
        value = getattr(config, name)
        if not field.metadata.get("semantic", True):
            continue
        if "neutral" in field.metadata and value == field.metadata["neutral"]:
            continue
        kept[name] = _plain(value, part or semantic)
    return kept


def keys(config_class: type, prefix: str = "") -> frozenset[str]:
    """Every dotted key that a config class accepts, those of all members of a union included."""
    found: set[str] = set()
    for name, (_, annotation) in _fields(config_class).items():
        found.add(prefix + name)
        for member in _config_classes(annotation):
            found |= keys(member, f"{prefix}{name}.")
    return frozenset(found)


_Fields = dict[str, tuple[dataclasses.Field[Any], Any]]
_known_fields: dict[type, _Fields] = {}


def _fields(config_class: type) -> _Fields:
    """Name -> (field, resolved annotation); remembered, since resolving annotations is slow."""
    if config_class not in _known_fields:
        if not dataclasses.is_dataclass(config_class):
            raise TypeError(f"{config_class!r} is not a dataclass")
        hints = typing.get_type_hints(config_class)
        _known_fields[config_class] = {
            field.name: (field, hints[field.name]) for field in dataclasses.fields(config_class) if field.init
        }
    return _known_fields[config_class]


def _refuse_unknown(mapping: Mapping[str, Any], fields: Iterable[str], path: str) -> None:
    for key in mapping:
        if key not in fields:
            where = f"{path}.{key}" if path else str(key)
            raise ConfigError(
                f"unknown key `{where}`{nearest(str(key), fields)}; accepted here: {', '.join(sorted(fields))}"
            )


def _by_name(members: Iterable[type]) -> dict[Any, type]:
    """Members of a union by the literal that their `name` field takes."""
    return {
        argument: member for member in members for argument in typing.get_args(typing.get_type_hints(member)["name"])
    }


def _first_name(members: Iterable[type]) -> Any:
    """The name of the member that a mapping without one means: that of the time before there were others, or None."""
    names = (_fields(member)["name"][0] for member in members)
    earlier = (field for field in names if "neutral" in field.metadata or field.metadata.get("implied"))
    return next((field.metadata.get("neutral", field.default) for field in earlier), None)


def _config_classes(annotation: Any) -> list[type]:
    if dataclasses.is_dataclass(annotation):
        return [typing.cast(type, annotation)]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [member for option in typing.get_args(annotation) for member in _config_classes(option)]
    return []


def _convert(annotation: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments or isinstance(value, bool) != any(isinstance(a, bool) for a in arguments):
            accepted = ", ".join(str(argument) for argument in arguments)
            raise ConfigError(f"`{where}` is {value!r}{nearest(str(value), map(str, arguments))}; accepted: {accepted}")
        return value
    if dataclasses.is_dataclass(annotation):
        return build(typing.cast(type, annotation), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"`{where}` is {value!r}; expected a list, as in [{value!r}]")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(value) != len(arguments):
            raise ConfigError(f"`{where}` is {list(value)!r}; expected {len(arguments)} values")
        return tuple(_convert(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(zip(arguments, value)))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"`{where}` is {value!r}; expected a mapping")
        return {str(key): _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    return _convert_plain(annotation, value, where)


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    members = [option for option in options if option is not type(None)]
    if len(members) == 1:
        return _convert(members[0], value, where)
    if not isinstance(value, Mapping) and any(dataclasses.is_dataclass(member) for member in members):
        raise ConfigError(f"`{where}` is {value!r}; expected a mapping with a `name`")
    if isinstance(value, Mapping):
        by_name = _by_name(members)
        name = value.get("name", _first_name(members))
        if name not in by_name:
            raise ConfigError(
                f"`{where}.name` is {name!r}{nearest(str(name), by_name)}; accepted: {', '.join(sorted(by_name))}"
            )
        return build(by_name[name], value, where)
    failures = []
    for member in members:
        try:
            return _convert(member, value, where)
        except ConfigError as error:
            failures.append(str(error))
    raise ConfigError(failures[0])


def _convert_plain(annotation: Any, value: Any, where: str) -> Any:
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if annotation is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if annotation is float and isinstance(value, str):  # YAML 1.1 reads 1e-6 as a string
        try:
            value = float(value)
        except ValueError:
            raise ConfigError(f"`{where}` is {value!r}; expected a number") from None
    if type(value) is not annotation:
        raise ConfigError(f"`{where}` is {value!r} ({type(value).__name__}); expected {annotation.__name__}")
    if annotation is float and not math.isfinite(value):
        raise ConfigError(f"`{where}` is {value!r}; expected a finite number")
    return value


def _bounded(field: dataclasses.Field[Any], value: Any, where: str) -> Any:
    """The value, if it is within the bounds of its knob."""
    at_least, above, at_most = field.metadata.get("bounds", (None, None, None))
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float) and not (
            (at_least is None or number >= at_least)
            and (above is None or number > above)
            and (at_most is None or number <= at_most)
        ):
            limits = (("at least", at_least), ("more than", above), ("at most", at_most))
            expected = " and ".join(f"{words} {limit:g}" for words, limit in limits if limit is not None)
            raise ConfigError(f"`{where}` is {value!r}; expected {expected}")
    return value


def _plain(value: Any, convert: Any) -> Any:
    if value is None or type(value) in _PLAIN:
        return value
    if dataclasses.is_dataclass(value):
        return convert(value)
    if isinstance(value, Mapping):
        return {key: _plain(item, convert) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, convert) for item in value]
    return value
