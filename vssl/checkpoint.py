"""Two files that must never be half there: the checkpoint of a running stage, and the weights that it hands on.

A checkpoint holds everything that the rest of a run depends on, as tensors and plain values in one file
`checkpoints/<step>.pt`, where step counts the updates that were made. A torch-free manifest `<step>.json` with size
and digest follows it; readers believe only what a manifest names. The last two are kept, so one that a disk damaged
costs an interval and not the run.
"""

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from vssl.artifacts import (
    Artifact,
    Inputs,
    canonical_json,
    read_json,
    sha256_file,
    sha256_text,
    write_atomic,
    write_json,
)
from vssl.config import semantic
from vssl.run import Run, StageError

KEPT = 2


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


def _prune(folder: Path) -> None:
    """Drop all but the last checkpoints, and what interrupted writes left; the manifest goes first."""
    steps = _steps(folder)
    for step in steps[KEPT:]:
        (folder / f"{step}.json").unlink(missing_ok=True)
    kept = {f"{step}.{suffix}" for step in steps[:KEPT] for suffix in ("pt", "json")}
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink(missing_ok=True)


def save_weights(run: Run, name: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write the artifact `<name>`: parameters and buffers with a JSON header that says what they belong to.

    Args:
        run: the stage's execution; rank 0 only.
        name: of the artifact.
        header: at least `kind`, `method`, `backbone` and `modality`.
        tensors: by full name, such as `backbone.*`, `projector.*`, `prototypes.weight`.
    """
    run.check_ownership()
    path = run.artifact(name)
    plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    content = {"header": canonical_json(dict(header)), "tensors": plain}
    write_atomic(path, lambda stream: torch.save(content, stream))
    return path


@dataclass(frozen=True, kw_only=True)
class Weights:
    header: dict[str, Any]
    tensors: dict[str, Tensor]
    origin: str

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `<prefix>.`, with the prefix taken off."""
        return {name.removeprefix(f"{prefix}."): t for name, t in self.tensors.items() if name.startswith(f"{prefix}.")}


def load_weights(artifact: Artifact, *, backbone: Mapping[str, Any] | None = None) -> Weights:
    """Read a weights artifact onto the CPU.

    Args:
        artifact: of type `weights`.
        backbone: config of the network that is to take them; None accepts any.

    Raises:
        StageError: not a weights file, or one of another backbone.
    """
    try:
        content = torch.load(artifact.path, map_location="cpu", weights_only=True)
        header, tensors = json.loads(content["header"]), content["tensors"]
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, ValueError, EOFError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StageError(
            f"{artifact.path} cannot be read as weights ({reason}); expected a file of a pretrain or linear stage, "
            'a torch.save of {"header": <JSON text>, "tensors": {name: tensor}}'
        ) from None
    if backbone is not None and header.get("backbone") != dict(backbone):
        raise StageError(
            f"the weights of {artifact.origin} belong to the backbone {header.get('backbone')}, this stage is "
            f"configured with {dict(backbone)}; set the same backbone in both, or bind other weights"
        )
    return Weights(header=header, tensors=tensors, origin=artifact.origin)


def fill(module: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Load tensors that must match a module exactly, name by name and shape by shape.

    Args:
        module: the network to fill.
        tensors: its state, as `Weights.part` gives it.
        what: the origin, for the message.

    Raises:
        StageError: names or shapes that do not fit, the first few of each kind.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    shapes = [
        f"{name} is {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    problems = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    found = "; ".join(f"{len(names)} {kind}: {', '.join(names[:3])}" for kind, names in problems if names)
    if found:
        raise StageError(f"{what} does not fit {type(module).__name__}: {found}")
    module.load_state_dict(dict(tensors))
