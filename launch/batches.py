"""Slurm's batches: one folder per `sbatch`, which is always one array, and which of its elements are in the queue.

The intent, `elements.json`, is written first and never changed. `job.json` says that Slurm took it, and since when it
may start; `void.json` that the launcher gave it up before that; `ended.json` that nothing of it can run any more. A job
carries its batch's name, so that an intent whose answer was lost is found in the queue.
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.provenance import code_digest, git_state
from launch.running.claims import now_ms
from launch.running.elements import Element
from launch.slurm.scheduler import NAME_PREFIX, QueuedElement
from launch.store import Store
from vssl.artifacts import read_json, write_json, write_text
from vssl.config import to_mapping

_FOLDERS = ("logs", "ranks", "settled")  # a log's folder must be there before the job starts


@dataclass(frozen=True, kw_only=True)
class BatchRecord:
    """What a batch's folder says."""

    folder: Path
    elements: Mapping[int, Mapping[str, Any]]  # index -> record of its stage
    slurm: Mapping[str, Any]  # name, cluster, ranks, resources, dependency, snapshot, python, policy, launcher, ...
    job_id: str | None  # of the array, once sbatch has answered
    released: bool
    void: bool
    ended: bool

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def name(self) -> str:
        """The name of its job."""
        return f"{NAME_PREFIX}{self.id}"

    def stage(self, index: int) -> str:
        """Folder name of the stage at an index."""
        return f"{self.elements[index]['kind']}-{self.elements[index]['stage_id']}"


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """A stage that is queued or runs."""

    stage: str  # its folder's name
    batch: BatchRecord
    entry: QueuedElement

    @property
    def place(self) -> tuple[str, int]:
        """(array job, index)."""
        return self.entry.array, self.entry.index


def create_batch(store: Store, elements: Mapping[int, Element], facts: Mapping[str, Any]) -> Path:
    """Write the intent of one array: index -> stage. Returns the batch's folder.

    Raises:
        ConfigError: the store cannot be written.
    """
    folder = store.batches / uuid.uuid4().hex[:12]
    record = batch_record(folder, store, elements, facts)
    with store.writing():
        for name in _FOLDERS:
            (folder / name).mkdir(parents=True)
        # On one line, unlike smaller records: a thousand elements with line breaks take a second to write.
        write_text(folder / "elements.json", json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    return folder


def batch_record(
    folder: Path, store: Store, elements: Mapping[int, Element], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What `elements.json` of a batch holds."""
    return {
        "executor": "slurm",
        "code": code_digest(),
        "git": git_state(),
        "store": store.to_mapping(),
        "slurm": {"name": f"{NAME_PREFIX}{folder.name}", **facts, "created_at_ms": now_ms()},
        "elements": {str(index): to_mapping(one) for index, one in elements.items()},
    }


def record_job(folder: Path, job_id: str, *, released: bool = False) -> None:
    """Note the array job that Slurm made of a batch, and once it may start, that too."""
    times = {"released_at_ms": now_ms()} if released else {}
    write_json(
        folder / "job.json", {"at_ms": now_ms(), **(read_json(folder / "job.json") or {}), "job_id": job_id} | times
    )


def mark_void(folder: Path, why: str) -> None:
    """Give a batch up that never started."""
    write_json(folder / "void.json", {"why": why, "at_ms": now_ms()})


def mark_ended(folder: Path) -> None:
    """Note that nothing of a batch can run any more."""
    write_json(folder / "ended.json", {"at_ms": now_ms()})


def read_batch(folder: Path) -> BatchRecord | None:
    """The record of a batch; None for one that is not Slurm's, or not there."""
    try:
        text = (folder / "elements.json").read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if '"slurm"' not in text:  # of another executor: not worth parsing
        return None
    record = read_json(folder / "elements.json")
    if record["executor"] != "slurm":
        return None
    job = read_json(folder / "job.json") or {}
    return BatchRecord(
        folder=folder,
        elements={int(index): element for index, element in record["elements"].items()},
        slurm=record["slurm"],
        job_id=job.get("job_id"),
        released="released_at_ms" in job,
        void=(folder / "void.json").exists(),
        ended=(folder / "ended.json").exists(),
    )


def open_batches(store: Store) -> list[BatchRecord]:
    """Slurm's batches that may still have something in the queue, oldest first."""
    return sorted(_open(store), key=lambda batch: (batch.slurm["created_at_ms"], batch.id))


def _open(store: Store) -> Iterator[BatchRecord]:
    try:
        folders = list(store.batches.iterdir())
    except FileNotFoundError:
        return
    for folder in folders:
        if (folder / "ended.json").exists() or (folder / "void.json").exists():
            continue
        batch = read_batch(folder)
        if batch is not None:
            yield batch


def queued_batches(store: Store, queue: Sequence[QueuedElement]) -> dict[str, BatchRecord]:
    """The batches of this store that have something in the queue, given up or not, by the name of their job."""
    ids = {one.name: one.name.removeprefix(NAME_PREFIX) for one in queue}
    found = ((name, read_batch(store.batches / id_)) for name, id_ in ids.items() if id_.isalnum())
    return {name: batch for name, batch in found if batch is not None}


def in_flight(store: Store, queue: Sequence[QueuedElement]) -> dict[str, InFlight]:
    """Where each stage of this store is queued or runs, by the name of its folder.

    An element whose script has spoken its last word is over, though Slurm still cleans up after it. Of two elements of
    one stage, the one that may still start counts, then the newer one.
    """
    batches = queued_batches(store, queue)
    verdicts = {name: _verdicts(batch.folder) for name, batch in batches.items()}
    found: dict[str, InFlight] = {}
    for entry in queue:
        batch = batches.get(entry.name)
        if batch is None or batch.void or entry.index not in batch.elements:
            continue
        if _is_over(entry, batch, verdicts[entry.name]):
            continue
        stage = batch.stage(entry.index)
        one = InFlight(stage=stage, batch=batch, entry=entry)
        if stage not in found or _worth(one) > _worth(found[stage]):
            found[stage] = one
    return found


def _verdicts(folder: Path) -> frozenset[str]:
    """Names of the verdicts that a batch's scripts have left."""
    try:
        return frozenset(path.name for path in (folder / "settled").iterdir())
    except FileNotFoundError:
        return frozenset()


def _is_over(entry: QueuedElement, batch: BatchRecord, verdicts: frozenset[str]) -> bool:
    name = f"{entry.index}.{entry.restarts}.json"
    if entry.state == "PENDING" or name not in verdicts:
        return False
    verdict = read_json(batch.folder / "settled" / name)
    return verdict is not None and verdict["decision"] == "end"


def _worth(one: InFlight) -> tuple[bool, int]:
    return one.entry.reason != "DependencyNeverSatisfied", int(one.entry.array)
