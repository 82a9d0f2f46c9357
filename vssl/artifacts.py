"""Names, digests and atomic writing of what a stage leaves behind. Torch-free.

A file appears whole or not at all: it is written aside, synced, renamed, and its folder is synced. `StageFolder` spells
every path inside a stage's folder; nothing else joins those names.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from vssl.config import ConfigError

ArtifactType = Literal["dataset", "flow", "features", "predictions", "plots", "card", "weights", "state", "metrics"]
FILE_TYPES: frozenset[str] = frozenset({"weights", "state", "metrics"})


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An artifact as a reader gets it: where it is, what it is, and the digest that its maker recorded."""

    type: str
    path: Path
    digest: str  # `file`: SHA-256 of the bytes; `tree`: SHA-256 of its listing; a source: the dataset's digest
    origin: str  # folder name of the stage that made it, or `source:<name>` / `file:<path>` for what came from outside


Inputs = Mapping[str, tuple[Artifact, ...]]  # role -> artifacts; one, unless the role takes many


def one(inputs: Inputs, role: str) -> Artifact | None:
    """The artifact bound to a role, if any is."""
    artifacts = inputs.get(role, ())
    return artifacts[0] if artifacts else None


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, floats by repr: equal values give equal text."""
    return _CANONICAL.encode(value)


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_listing(root: Path) -> list[tuple[str, int, str]]:
    """(relative path, size, SHA-256) of every file under a folder, sorted by path."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.endswith(".tmp"))
    return [(path.relative_to(root).as_posix(), path.stat().st_size, sha256_file(path)) for path in files]


def digest(path: Path) -> tuple[str, int]:
    """(digest, size in bytes) of an artifact: of the bytes of a file, of the listing of a tree."""
    if path.is_dir():
        listing = tree_listing(path)
        return sha256_text(canonical_json(listing)), sum(size for _, size, _ in listing)
    return sha256_file(path), path.stat().st_size


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, write: Callable[[BinaryIO], None], *, durable: bool = True) -> None:
    """Write a file so that readers, now or after a crash, see the old one or the whole new one.

    Args:
        durable: False for what nobody needs after a power cut: readers see it whole, and no disk is waited for.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(aside, "wb") as stream:
            write(stream)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(aside, path)
    except Exception:  # torch.save turns a full disk into a RuntimeError
        aside.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    data = text.encode()
    write_atomic(path, lambda stream: _write_all(stream, data), durable=durable)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def _write_all(stream: BinaryIO, data: bytes) -> None:
    stream.write(data)


def create_json(path: Path, value: Any) -> bool:
    """Create a file that must not exist yet, whole; False where another process was first."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    write_json(aside, value)
    try:
        os.link(aside, path)  # fails where the name exists, on local disks and on NFS alike
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    sync(path.parent)
    return True


def read_json(path: Path) -> Any:
    """The value in a JSON file, or None where there is no such file.

    Raises:
        ConfigError: the file is there and damaged. Files appear whole, so a disk or a person did it.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}); remove it, and the same line makes it anew") from None


@dataclass(frozen=True)
class StageFolder:
    """Every path inside `<root>/stages/<kind>-<id>`."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def inputs(self) -> Path:
        return self.root / "inputs.json"

    @property
    def attempts(self) -> Path:
        return self.root / "attempts"

    @property
    def environment(self) -> Path:
        return self.root / "environment"

    @property
    def beat(self) -> Path:
        return self.root / "beat"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def journal(self) -> Path:
        return self.root / "journal.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def rendezvous(self) -> Path:
        return self.root / "rendezvous"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def done(self) -> Path:
        return self.root / "done.json"
