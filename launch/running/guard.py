"""The guard: no stage starts on an input that is missing or is not what its maker recorded."""

from pathlib import Path

from launch.running.elements import Element, ElementInput
from launch.store import Finished, Store
from vssl.artifacts import (
    FILE_TYPES,
    Artifact,
    StageFolder,
    canonical_json,
    sha256_file,
    sha256_text,
)


class RefusedError(Exception):
    """An input is missing or changed; the message says which, and what mends it."""


def listing_path(folder: StageFolder, artifact: str) -> Path:
    """Where the file listing of a tree lies: beside the tree, digested into its record."""
    return folder.artifacts / f"{artifact}.listing.json"


def resolve_inputs(element: Element, store: Store) -> dict[str, tuple[Artifact, ...]]:
    """Find, verify and describe every input of a stage: files by digest, trees by their listing.

    Raises:
        RefusedError: a parent is not done, or an artifact is gone or differs from its record.
    """
    for name in element.after:
        _finished(element, name, store)
    return {role: tuple(_resolve(element, one, store) for one in ones) for role, ones in element.inputs.items()}


def _resolve(element: Element, wanted: ElementInput, store: Store) -> Artifact:
    if wanted.source is not None:
        return _from_outside(element, wanted, store)
    assert wanted.folder is not None
    assert wanted.artifact is not None
    parent = _finished(element, wanted.folder, store)
    path = parent.folder.artifacts / wanted.artifact
    if wanted.artifact not in parent.record["artifacts"]:
        made = ", ".join(parent.record["artifacts"]) or "none"
        raise RefusedError(f"{wanted.folder} made no artifact {wanted.artifact!r}; it made: {made}")
    recorded = parent.record["artifacts"][wanted.artifact]["digest"]
    is_file = wanted.type in FILE_TYPES
    problem = _file_problem(path, recorded, store) if is_file else _tree_problem(parent, wanted.artifact, store)
    if problem:
        raise RefusedError(
            f"{element.name} was not started: {path} {problem} since {wanted.folder} was completed; "
            f"make it anew with force= on the stage that made it"
        )
    return Artifact(type=wanted.type, path=path, digest=recorded, origin=wanted.folder)


def _finished(element: Element, name: str, store: Store) -> Finished:
    found = list(store.finished(name))
    if not found and store.appears(store.stage(name).done):
        found = list(store.finished(name))
    if found:  # of several, the one that the plan stands on
        return found[0] if len(found) == 1 else next(filter(store.is_current, found), found[0])
    raise RefusedError(
        f"{element.name} was not started: its parent {name} has no completion record in {store.root / 'stages'}"
        f"{''.join(f' or {root}' for root in store.read)}; run the parent first"
    )


def _from_outside(element: Element, wanted: ElementInput, store: Store) -> Artifact:
    assert wanted.source is not None
    sort, _, place = wanted.source.partition(":")
    if sort == "dataset":
        record = store.when_visible(store.source(place) / "source.json")
        if record is None or record["digest"] != wanted.id:
            found = "is not prepared" if record is None else "was prepared anew with other content"
            raise RefusedError(
                f"{element.name} was not started: dataset {place} {found}; submit again, so that the plan sees it"
            )
        return Artifact(type=wanted.type, path=store.source(place), digest=wanted.id, origin=f"source:{record['name']}")
    path = Path(place)
    problem = _file_problem(path, wanted.id, store)
    if problem:
        raise RefusedError(f"{element.name} was not started: {path} {problem} since the plan was made; submit again")
    return Artifact(type=wanted.type, path=path, digest=wanted.id, origin=wanted.source)


def _file_problem(path: Path, digest: str, store: Store) -> str:
    if not store.appears(path):
        return "is gone"
    return "" if sha256_file(path) == digest else "has changed"


def _tree_problem(parent: Finished, artifact: str, store: Store) -> str:
    listing = store.when_visible(listing_path(parent.folder, artifact))
    if listing is None or sha256_text(canonical_json(listing)) != parent.digest(artifact):
        return "has lost its listing"
    root = parent.folder.artifacts / artifact
    for relative, size, _ in listing:
        if not store.appears(root / relative):
            return f"lacks {relative}"
        if (root / relative).stat().st_size != size:
            return f"holds a {relative} of another size"
    return ""
