"""Templates to elements: `each` and `repeat` unrolled, every `{variable}` filled in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launch.spec import NAME, Repeat, Sweep, Template, Variables, fill
from vssl.config import ConfigError


@dataclass(frozen=True, kw_only=True)
class Element:
    """One stage name of a sweep, before the grid gives it lanes."""

    name: str  # "cross1-rgb"
    template: Template
    config: tuple[str, ...]
    inputs: Mapping[str, tuple[str, ...]]
    output: str | None
    after: tuple[str, ...]

    @property
    def kind(self) -> str:
        return self.template.kind

    @property
    def where(self) -> str:
        return self.template.where

    def answers_to(self, selector: str) -> bool:
        """Whether a selector means this element: its name, its template's, or `all`."""
        return selector in (self.name, self.template.name, "all")


def unroll(sweep: Sweep) -> tuple[Element, ...]:
    """Elements in the order in which names are written and read.

    Raises:
        ConfigError: two elements with one name, a name that another template has, or an unknown variable.
    """
    elements: dict[str, Element] = {}
    templates = {template.name: template for template in sweep.templates()}
    for element in _unroll(sweep.stages, {}):
        if element.name in elements:
            raise ConfigError(
                f"{element.where}: two stages are named `{element.name}` (the other one is written at "
                f"{elements[element.name].where}); name the variable that tells them apart, as in `name-{{variable}}`"
            )
        other = templates.get(element.name)
        if other is not None and other is not element.template:
            raise ConfigError(f"{element.where}: stage `{element.name}` has the name of the template at {other.where}")
        elements[element.name] = element
    return tuple(elements.values())


def _unroll(stages: tuple[Template | Repeat, ...], variables: Variables) -> Iterator[Element]:
    for item in stages:
        if isinstance(item, Template):
            for point in item.each:
                yield _element(item, {**variables, **point})
        else:
            for count in range(1, item.times + 1):
                yield from _unroll(item.stages, {**variables, item.variable: count})


def _element(template: Template, variables: Variables) -> Element:
    def filled(text: str) -> str:
        return fill(text, variables, template.where)

    name = filled(template.written)
    if not NAME.fullmatch(name) or name == "all":
        raise ConfigError(
            f"{template.where}: a stage would be named `{name}`; expected a letter, then letters, digits, `_` and `-`, "
            "and not `all` (give values that do not fit a short name, as in each: [{lr: 0.1, tag: low}])"
        )
    output = filled(template.output) if template.output is not None else None
    if output is not None and not NAME.fullmatch(output):
        raise ConfigError(
            f"{template.where}: output is `{output}`; expected a letter, then letters, digits, `_` and `-`"
        )
    return Element(
        name=name,
        template=template,
        config=tuple(map(filled, template.config)),
        inputs={role: tuple(map(filled, texts)) for role, texts in template.inputs.items()},
        output=output,
        after=tuple(map(filled, template.after)),
    )
