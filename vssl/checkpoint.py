"""Checkpoints: everything that a stopped stage needs to go on as if it had never stopped.

A checkpoint holds everything that the rest of a run depends on, as tensors and plain values in one file
`checkpoints/<step>.pt`, where step counts the updates that were made. A torch-free manifest `<step>.json` with size
and digest follows it; readers believe only what a manifest names. The last two are kept, so one that a disk damaged
costs an interval and not the run.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from vssl.artifacts import (
    Inputs,
    canonical_json,
    read_json,
    sha256_file,
    sha256_text,
    write_atomic,
    write_json,
)
from vssl.config import semantic
from vssl.distributed import broadcast_object, is_main, rank
from vssl.run import Run, StageError

KEPT = 2
VISIBILITY_S = 90.0  # network file systems show a name that another node wrote after up to a minute


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `<step>.json` says about `<step>.pt`."""

    step: int  # updates made
    file: str
    size: int  # bytes
    sha256: str
    journal_offset: int  # bytes of the journal that were durable when the checkpoint was made
    world_size: int
    identity: str  # of config and inputs; a checkpoint of another stage is refused


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    manifest: Manifest
    state: dict[str, Any]


def identity(config: Any, inputs: Inputs) -> str:
    """What a checkpoint belongs to: the semantic config and the content of the inputs."""
    digests = {role: [artifact.digest for artifact in artifacts] for role, artifacts in inputs.items()}
    return sha256_text(canonical_json({"config": semantic(config), "inputs": digests}))[:16]


class _Digesting:
    """A stream that hashes what passes through, so that a large file is not read again for its digest."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.hash.update(view)
        self.size += view.nbytes
        return self._stream.write(view)

    def flush(self) -> None:
        self._stream.flush()


def save(run: Run, step: int, state: Mapping[str, Any], *, world_size: int, identity: str) -> None:
    """Make the journal durable, then the state, then the manifest that vouches for it; rank 0 only.

    Args:
        run: the stage's execution.
        step: updates made so far; names the file.
        state: nested dicts and lists of tensors, numbers, strings, booleans and None.
        world_size: number of ranks that made it.
        identity: see `identity`.

    Raises:
        StageError: a newer attempt owns the stage.
    """
    run.check_ownership()
    folder = run.folder.checkpoints
    folder.mkdir(parents=True, exist_ok=True)
    offset = run.journal.sync()
    file = folder / f"{step}.pt"
    digests: list[_Digesting] = []

    def write(stream: BinaryIO) -> None:
        digests.append(_Digesting(stream))
        torch.save(dict(state), digests[-1])  # type: ignore[arg-type]

    write_atomic(file, write)
    run.check_ownership()
    manifest = Manifest(
        step=step,
        file=file.name,
        size=digests[-1].size,
        sha256=digests[-1].hash.hexdigest(),
        journal_offset=offset,
        world_size=world_size,
        identity=identity,
    )
    write_json(folder / f"{step}.json", vars(manifest))
    _prune(folder)


def newest(run: Run, *, identity: str) -> Checkpoint | None:
    """The newest checkpoint that is whole, on the CPU; None where the stage has never saved.

    Raises:
        StageError: there are checkpoints but none can be read, or they belong to another config or other inputs.
    """
    folder = run.folder.checkpoints
    steps = _steps(folder)
    for position, step in enumerate(steps):
        try:
            found = _read(folder, step)
        except _Damaged as damage:
            older = (
                f"going back to step {steps[position + 1]}" if position + 1 < len(steps) else "and there is no other"
            )
            run.say(f"WARNING: checkpoint {step} of {run.dir.name} is damaged ({damage}); {older}")
            continue
        if found.manifest.identity != identity:
            raise StageError(
                f"{folder / found.manifest.file} was made with config and inputs {found.manifest.identity}, this stage "
                f"has {identity}; redo the stage with force="
            )
        return found
    if steps:
        raise StageError(
            f"none of the checkpoints of {run.dir.name} can be read (steps {', '.join(map(str, steps))}); redo the "
            "stage from its beginning with force="
        )
    return None


def resume(run: Run, *, identity: str) -> Checkpoint | None:
    """The checkpoint that every rank goes on from, chosen by rank 0; all ranks call.

    What lies after it, journal rows and checkpoints that could not be read, is forgotten.

    Raises:
        StageError: as in `newest`, on all ranks.
    """
    found, refusal = None, None
    if is_main():
        try:
            found = newest(run, identity=identity)
            run.check_ownership()
            run.journal.truncate(found.manifest.journal_offset if found else 0)
            for step in _steps(run.folder.checkpoints):
                if found and step > found.manifest.step:
                    (run.folder.checkpoints / f"{step}.json").unlink(missing_ok=True)
        except StageError as error:
            refusal = str(error)
    step, refusal = broadcast_object((found.manifest.step if found else None, refusal))
    if refusal is not None:
        raise StageError(refusal)
    if found is None and step is not None:
        found = _await(run.folder.checkpoints, step)
    return found


class _Damaged(Exception):
    pass


def _steps(folder: Path) -> list[int]:
    """Steps that have a manifest, newest first."""
    if not folder.is_dir():
        return []
    return sorted((int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit()), reverse=True)


def _read(folder: Path, step: int) -> Checkpoint:
    try:
        manifest = Manifest(**read_json(folder / f"{step}.json"))
    except (TypeError, ValueError):
        raise _Damaged(f"{step}.json is not a manifest") from None
    file = folder / manifest.file
    if not file.is_file():
        raise _Damaged(f"{manifest.file} is missing")
    size = file.stat().st_size
    if size != manifest.size:
        raise _Damaged(f"{manifest.file} has {size} bytes instead of {manifest.size}")
    if sha256_file(file) != manifest.sha256:
        raise _Damaged(f"the content of {manifest.file} has changed since it was written")
    return Checkpoint(manifest=manifest, state=torch.load(file, map_location="cpu", weights_only=True))


def _await(folder: Path, step: int) -> Checkpoint:
    """A checkpoint that rank 0 has read; on another node its files may take a while to appear."""
    deadline = time.monotonic() + VISIBILITY_S
    while True:
        try:
            return _read(folder, step)
        except _Damaged as damage:
            if time.monotonic() > deadline:
                raise StageError(
                    f"rank {rank()} cannot read the checkpoint that rank 0 has read ({damage}), after waiting "
                    f"{VISIBILITY_S:.0f} s; is {folder} on a file system that all nodes share?"
                ) from None
            time.sleep(0.5)


def _prune(folder: Path) -> None:
    """Drop all but the last checkpoints, and what interrupted writes left; the manifest goes first."""
    steps = _steps(folder)
    for step in steps[KEPT:]:
        (folder / f"{step}.json").unlink(missing_ok=True)
    kept = {f"{step}.{suffix}" for step in steps[:KEPT] for suffix in ("pt", "json")}
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink(missing_ok=True)
