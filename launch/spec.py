"""A sweep as written: YAML to frozen dataclasses, with file and line in every error.

data: ucf101                                    # dataset of the templates that name none
stages:
  - {name: "single-{stream}", kind: pretrain, each: {stream: [rgb, flow]}, output: "{stream}", ...}
  - repeat: 2
    as: cycle                                   # {cycle} counts from 1
    stages: [...]
grid: {linear: {optim.base_lr: [0.1, 0.3]}}     # optional
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.planning.marked_yaml import Marked, load
from vssl.config import ConfigError, nearest
from vssl.stages import STAGES

Variables = Mapping[str, Any]

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_VARIABLE = re.compile(r"\{(\w+)\}")
_TEMPLATE_KEYS = ("name", "kind", "each", "config", "inputs", "output", "after", "resources", "collect")
_REPEAT_KEYS = ("repeat", "as", "stages")


@dataclass(frozen=True, kw_only=True)
class Template:
    """A stage as written; `{variable}` stands in its texts."""

    written: str  # "single-{stream}"
    kind: str
    each: tuple[Variables, ...] = ({},)  # one element for each
    config: tuple[str, ...] = ()  # overrides in Hydra's grammar
    inputs: Mapping[str, tuple[str, ...]]
    output: str | None = None
    after: tuple[str, ...] = ()
    resources: str | Mapping[str, Any] | None = None
    collect: tuple[str, ...] = ()
    where: str  # "file:line"

    @property
    def name(self) -> str:
        """The written name without {...}, hyphens collapsed."""
        return re.sub(r"-+", "-", _VARIABLE.sub("", self.written)).strip("-")


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """A block that is unrolled `times` times; `{variable}` counts from 1."""

    times: int
    variable: str
    stages: "tuple[Template | Repeat, ...]"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    name: str
    stages: tuple[Template | Repeat, ...]
    data: str | None = None
    grid: Any = None  # plain value; `launch.planning.grid` gives it its meaning
    where: str

    def templates(self) -> Iterator[Template]:
        """Every template once, in the order written."""
        yield from _templates(self.stages)


def read_sweep(path: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        ConfigError: with file, line, value and what is accepted.
    """
    top = load(path)
    keys = top.mapping("a sweep", ("description", "data", "stages", "grid"))
    if "stages" not in keys or not keys["stages"].items("`stages`"):
        raise top.error("a sweep needs `stages`, a list of templates")
    sweep = Sweep(
        name=path.stem,
        stages=_read_stages(keys["stages"]),
        data=keys["data"].text("`data`") if "data" in keys else None,
        grid=keys["grid"].plain() if "grid" in keys else None,
        where=str(path),
    )
    seen: dict[str, Template] = {}
    for template in sweep.templates():
        if template.name in seen:
            raise ConfigError(
                f"{template.where}: template `{template.name}` is also written at {seen[template.name].where}; "
                "give one of them another name"
            )
        seen[template.name] = template
    return sweep


def fill(text: str, variables: Variables, where: str) -> str:
    """Replace each `{variable}`; braces around anything else stay (Hydra's `{key: value}` uses them too)."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in variables:
            accepted = ", ".join(sorted(variables)) or "none: the template has no `each` and is in no `repeat`"
            raise ConfigError(
                f"{where}: `{text}` uses {{{match[1]}}}{nearest(match[1], variables)}; variables here: {accepted}"
            )
        return str(variables[match[1]])

    return _VARIABLE.sub(value, text)


def _templates(stages: tuple[Template | Repeat, ...]) -> Iterator[Template]:
    for item in stages:
        if isinstance(item, Template):
            yield item
        else:
            yield from _templates(item.stages)


def _read_stages(marked: Marked) -> tuple[Template | Repeat, ...]:
    return tuple(
        _read_repeat(item) if "repeat" in item.mapping("an entry of `stages`") else _read_template(item)
        for item in marked.items("`stages`")
    )


def _read_repeat(marked: Marked) -> Repeat:
    keys = marked.mapping("a repeat block", _REPEAT_KEYS)
    for key in _REPEAT_KEYS:
        if key not in keys:
            raise marked.error(f"a repeat block needs `{key}`, as in {{repeat: 2, as: cycle, stages: [...]}}")
    times = keys["repeat"].value
    if type(times) is not int or times < 1:
        raise keys["repeat"].error(f"`repeat` is {times!r}; expected a whole number, at least 1")
    return Repeat(times=times, variable=_name(keys["as"], "`as`"), stages=_read_stages(keys["stages"]))


def _read_template(marked: Marked) -> Template:
    keys = marked.mapping("a template", _TEMPLATE_KEYS)
    for key in ("name", "kind"):
        if key not in keys:
            raise marked.error(f"a template needs `{key}`")
    kind = keys["kind"].text("`kind`")
    if kind not in STAGES:
        raise keys["kind"].error(f"kind is `{kind}`{nearest(kind, STAGES)}; accepted: {', '.join(STAGES)}")
    written = keys["name"].text("`name`")
    template = Template(
        written=written,
        kind=kind,
        each=_read_each(keys["each"]) if "each" in keys else ({},),
        config=_texts(keys["config"], "`config`") if "config" in keys else (),
        inputs=_read_inputs(keys["inputs"], kind) if "inputs" in keys else {},
        output=keys["output"].text("`output`") if "output" in keys else None,
        after=_texts(keys["after"], "`after`") if "after" in keys else (),
        resources=_read_resources(keys["resources"]) if "resources" in keys else None,
        collect=_texts(keys["collect"], "`collect`") if "collect" in keys else (),
        where=f"{marked.file}:{marked.line}",
    )
    if not NAME.fullmatch(template.name) or template.name == "all":
        raise keys["name"].error(
            f"name is `{written}`, so the template is `{template.name}`; expected a letter, then letters, digits, "
            "`_` and `-`, and not `all`"
        )
    return template


def _read_each(marked: Marked) -> tuple[Variables, ...]:
    if isinstance(marked.value, dict):
        axes = [
            [(name, item.plain()) for item in values.items(f"`each` of {name}")]
            for name, values in marked.value.items()
        ]
        points: list[Variables] = [dict(point) for point in itertools.product(*axes)]
    else:
        points = [item.mapping("an entry of `each`") and item.plain() for item in marked.items("`each`")]
        if len({tuple(sorted(point)) for point in points}) > 1:
            raise marked.error("the entries of `each` set different variables; give each entry all of them")
    if not points or not points[0]:
        raise marked.error("`each` is empty; write {variable: [values]} or a list of mappings")
    return tuple(points)


def _read_inputs(marked: Marked, kind: str) -> Mapping[str, tuple[str, ...]]:
    roles = STAGES[kind].roles
    found: dict[str, tuple[str, ...]] = {}
    for role, item in marked.mapping("`inputs`").items():
        if role not in roles:
            accepted = list(roles)
            raise item.error(
                f"kind {kind} has no input `{role}`{nearest(role, accepted)}; accepted: {', '.join(accepted) or 'none'}"
            )
        found[role] = _texts(item, f"input `{role}`")
        if len(found[role]) > 1 and not roles[role].many:
            raise item.error(f"input `{role}` of kind {kind} takes one artifact, not {len(found[role])}")
    return found


def _read_resources(marked: Marked) -> str | Mapping[str, Any]:
    if isinstance(marked.value, dict):
        plain: Mapping[str, Any] = marked.plain()
        return plain
    return marked.text("`resources`")


def _texts(marked: Marked, what: str) -> tuple[str, ...]:
    """One text, or a list of them."""
    if isinstance(marked.value, list):
        return tuple(item.text(f"an entry of {what}") for item in marked.value)
    return (marked.text(what),)


def _name(marked: Marked, what: str) -> str:
    text = marked.text(what)
    if not NAME.fullmatch(text):
        raise marked.error(f"{what} is `{text}`; expected a letter, then letters, digits, `_` and `-`")
    return text
