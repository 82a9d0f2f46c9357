"""Names to edges: which element's artifact each input of each element reads, and what an order without data adds."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launch.planning.unroll import Element
from launch.spec import NAME
from vssl.artifacts import FILE_TYPES
from vssl.config import ConfigError, nearest
from vssl.stages import STAGES


@dataclass(frozen=True, kw_only=True)
class Link:
    """Where one input comes from: an artifact of another element, or a file."""

    type: str  # artifact type
    element: str | None = None
    artifact: str | None = None
    file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """The edges of a sweep between elements; lanes follow them one by one."""

    links: Mapping[str, Mapping[str, tuple[Link, ...]]]  # element -> role -> links
    after: Mapping[str, tuple[str, ...]]  # element -> elements
    order: tuple[str, ...]  # topological, otherwise as written


@dataclass
class _Bindings:
    """Name -> elements that wrote it so far, the newest last."""

    written: dict[str, list[Element]] = field(default_factory=dict)

    def find(self, element: Element, text: str, later: Iterable[str]) -> tuple[Element, str]:
        """(producer, artifact) of "name", "name.artifact", "name@producer" or "name.artifact@producer"."""
        bound, _, producer = text.partition("@")
        name, _, artifact = bound.partition(".")
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"{element.where}: `{text}` is no input; write NAME, NAME.ARTIFACT, NAME@STAGE or file:/PATH"
            )
        writers = self.written.get(name, [])
        if not writers:
            if name in later:
                hint = " above it; it is written further down, so move its template up"
            else:
                hint = f"{nearest(name, self.written)}; written above: {', '.join(self.written) or 'nothing'}"
            raise ConfigError(f"{element.where}: `{element.name}` reads `{name}`, which no stage writes{hint}")
        if producer:
            fitting = [writer for writer in writers if producer in (writer.name, writer.template.name)]
            if not fitting:
                names = dict.fromkeys(label for item in writers for label in (item.name, item.template.name))
                raise ConfigError(
                    f"{element.where}: `{name}` is not written by `{producer}`{nearest(producer, names)}; "
                    f"written above by: {', '.join(names)}"
                )
            writers = fitting
        makes = STAGES[writers[-1].kind].makes
        artifact = artifact or STAGES[writers[-1].kind].main
        if artifact not in makes:
            raise ConfigError(
                f"{element.where}: `{writers[-1].name}` makes no artifact `{artifact}`{nearest(artifact, makes)}; "
                f"accepted: {', '.join(f'{name}.{made}' for made in makes)}"
            )
        return writers[-1], artifact


def wire(elements: tuple[Element, ...]) -> Wiring:
    """Find every edge.

    Raises:
        ConfigError: an unwritten name, a wrong type, an unknown stage in `after`, or a cycle.
    """
    bindings = _Bindings()
    outputs = {element.output for element in elements if element.output}
    links: dict[str, Mapping[str, tuple[Link, ...]]] = {}
    for element in elements:
        roles = STAGES[element.kind].roles
        links[element.name] = {
            role: tuple(_link(element, role, text, bindings, outputs) for text in element.inputs[role])
            for role in roles
            if role in element.inputs
        }
        if element.output is not None:
            bindings.written.setdefault(element.output, []).append(element)
    after = {element.name: _after(element, elements) for element in elements}
    return Wiring(links=links, after=after, order=_order(elements, links, after))


def _link(element: Element, role: str, text: str, bindings: _Bindings, outputs: set[str]) -> Link:
    accepted = STAGES[element.kind].roles[role].types
    if text.startswith("file:"):
        path = Path(text.removeprefix("file:")).expanduser()
        files = [name for name in accepted if name in FILE_TYPES]
        if not files:
            raise ConfigError(f"{element.where}: input `{role}` takes {' or '.join(accepted)}, which is not one file")
        if not path.is_absolute():
            raise ConfigError(f"{element.where}: `{text}`: give an absolute path, as in file:/data/weights.pt")
        return Link(type=files[0], file=path)
    if role == "dataset" and re.split("[.@]", text)[0] not in {*bindings.written, *outputs}:
        raise ConfigError(
            f"{element.where}: `{element.name}` reads the dataset `{text}`, which no stage writes; a prepared one is "
            "chosen by `config: [data=NAME]`, or by `data=` of the sweep"
        )
    producer, artifact = bindings.find(element, text, outputs)
    found = STAGES[producer.kind].makes[artifact]
    if found not in accepted:
        fitting = [
            f"{name}.{made}"
            for name, writers in bindings.written.items()
            for made, made_type in STAGES[writers[-1].kind].makes.items()
            if made_type in accepted
        ]
        raise ConfigError(
            f"{element.where}: input `{role}` of `{element.name}` takes {' or '.join(accepted)}, but `{text}` is "
            f"{found} (of `{producer.name}`); fitting here: {', '.join(fitting) or 'nothing written above'}"
        )
    return Link(type=found, element=producer.name, artifact=artifact)


def _after(element: Element, elements: tuple[Element, ...]) -> tuple[str, ...]:
    found: list[str] = []
    for name in element.after:
        meant = [other.name for other in elements if name in (other.name, other.template.name)]
        if not meant:
            names = dict.fromkeys(label for other in elements for label in (other.name, other.template.name))
            raise ConfigError(
                f"{element.where}: after: no stage is named `{name}`{nearest(name, names)}; accepted: "
                f"{', '.join(names)}"
            )
        found += meant
    return tuple(dict.fromkeys(found))


def _order(
    elements: tuple[Element, ...],
    links: Mapping[str, Mapping[str, tuple[Link, ...]]],
    after: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    """The first element whose parents are all placed, again and again."""
    parents = {
        element.name: {link.element for role in links[element.name].values() for link in role if link.element}
        | set(after[element.name])
        for element in elements
    }
    order: dict[str, None] = {}
    while len(order) < len(elements):
        ready = next((name for name in parents if name not in order and parents[name] <= order.keys()), None)
        if ready is None:
            cycle = _cycle({name: sorted(above - order.keys()) for name, above in parents.items() if name not in order})
            where = next(element.where for element in elements if element.name == cycle[0])
            raise ConfigError(f"{where}: stages wait for each other: {' after '.join(cycle)}; drop one `after`")
        order[ready] = None
    return tuple(order)


def _cycle(parents: Mapping[str, list[str]]) -> list[str]:
    """One cycle of a graph in which every node has a parent."""
    path = [next(iter(parents))]
    while (above := parents[path[-1]][0]) not in path:
        path.append(above)
    return [*path[path.index(above) :], above]
