"""What Slurm knows of a plan's stages: which batch each was last sent in, how that ended, and where it is now.

The batch folders say it without a controller; squeue is asked once, and only while a batch is still open that holds a
stage which is not finished.
"""

import json
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.running.batch_folder import BatchFolder
from launch.store import Store
from vssl.artifacts import read_json
from vssl.config import ConfigError

if TYPE_CHECKING:
    from launch.batches import InFlight
    from launch.slurm.scheduler import Scheduler


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A stage as it was last handed to Slurm."""

    batch: Path
    index: int
    job: str  # "<array job>_<index>"; "" while sbatch has not answered
    sent_at_ms: int
    is_open: bool  # the batch has elements that may still run
    verdict: Mapping[str, Any] | None = None  # what the script said at the end of the newest run, with its `restart`
    cancelled_at_ms: int | None = None  # by `vssl cancel`


@dataclass(frozen=True, kw_only=True)
class QueueView:
    """What is known beside the stages' own folders; keys are folder names (`<kind>-<id>`)."""

    sent: Mapping[str, Sent] = field(default_factory=dict)
    queued: Mapping[str, "InFlight"] = field(default_factory=dict)
    asked_at_ms: int | None = None  # when squeue answered; None: it was not asked, or
    silent: str = ""  # ... why it did not answer


STORE_ALONE = QueueView()
ANSWER_S = 20.0


def look(
    store: Store, wanted: Collection[str], pipeline: str, scheduler: "Scheduler | None" = None, *, tidy: bool = True
) -> QueueView:
    """Ask Slurm about stages that are not finished.

    Args:
        store: where the batches lie.
        wanted: folder names of the stages.
        pipeline: the pipeline they belong to; batches of others count while they are open.
        scheduler: None: Slurm's commands on this machine.
        tidy: first clear the begin times of requeued jobs, which wait two minutes otherwise.
    """
    sent = sent_stages(store, wanted, pipeline) if wanted else {}
    if not any(one.is_open for one in sent.values()):
        if tidy:
            clear_begin_times_of(store, scheduler)
        return QueueView(sent=sent)
    from launch.batches import in_flight
    from launch.slurm.begin_time import clear_begin_times
    from launch.slurm.scheduler import START_IN_S, SchedulerRefusedError, SchedulerSilentError

    if scheduler is None and shutil.which("squeue") is None:
        return QueueView(sent=sent, silent="this machine has no squeue")
    scheduler = scheduler or impatient()
    try:
        asked_at_ms = time.time_ns() // 1_000_000
        queue = scheduler.queue()
        cleared = clear_begin_times(store, scheduler, queue) if tidy else ()
        soon_s = time.time() + START_IN_S
        queue = [replace(one, start_s=soon_s) if one.job in cleared else one for one in queue]
        return QueueView(sent=sent, queued=in_flight(store, queue), asked_at_ms=asked_at_ms)
    except (SchedulerSilentError, SchedulerRefusedError) as error:
        return QueueView(sent=sent, silent=str(error).strip() or "the controller does not answer")


def impatient() -> "Scheduler":
    """Slurm's commands for a person who waits, and can type the line again."""
    from launch.slurm.scheduler import Scheduler

    return Scheduler(timeout_s=ANSWER_S, read_tries=1)


def clear_begin_times_of(store: Store, scheduler: "Scheduler | None" = None) -> None:
    """Start what of a store was requeued and only waits for its begin time; costs a listing where there is nothing."""
    if not store.requeued.is_dir():
        return
    from launch.slurm.begin_time import clear_begin_times

    clear_begin_times(store, scheduler or impatient())


def sent_stages(store: Store, wanted: Collection[str], pipeline: str) -> dict[str, Sent]:
    """The newest batch of each of some stages, by folder name; stages that were never sent to Slurm are left out.

    Read are the open batches, and of those that have ended the ones that name the pipeline.
    """
    found: dict[str, Sent] = {}
    for folder, record, is_open in _slurm_batches(store, pipeline):
        job = read_json(folder / "job.json")
        cancelled = read_json(folder / "cancelled.json") or {}
        sent_at_ms = int(job["at_ms"] if job else record["slurm"]["created_at_ms"])
        verdicts = _newest_verdicts(folder)
        for key, element in record["elements"].items():
            name = f"{element['kind']}-{element['stage_id']}"
            if name not in wanted or (name in found and found[name].sent_at_ms >= sent_at_ms):
                continue
            index = int(key)
            found[name] = Sent(
                batch=folder,
                index=index,
                job=f"{job['job_id']}_{index}" if job else "",
                sent_at_ms=sent_at_ms,
                is_open=is_open,
                verdict=_verdict(folder, index, verdicts.get(index)),
                cancelled_at_ms=cancelled.get(key),
            )
    return found


def _slurm_batches(store: Store, pipeline: str) -> Iterator[tuple[Path, Mapping[str, Any], bool]]:
    """(folder, record, whether it is open) of the batches that can matter; the others are not even parsed."""
    try:
        folders = sorted(store.batches.iterdir())
    except FileNotFoundError:
        return
    for folder in folders:
        try:
            text = (folder / "elements.json").read_text()
        except OSError:
            continue
        is_open = not (folder / "ended.json").exists()
        if not is_open and pipeline not in text:
            continue
        if '"slurm"' not in text or (folder / "void.json").exists():
            continue
        record = json.loads(text)
        if record["executor"] == "slurm":
            yield folder, record, is_open


def _newest_verdicts(folder: Path) -> dict[int, int]:
    """index -> highest restart that has a verdict."""
    found: dict[int, int] = {}
    try:
        names = [path.name for path in (folder / "settled").iterdir()]
    except FileNotFoundError:
        return found
    for name in names:
        words = name.split(".")  # <index>.<restart>.json
        if len(words) == 3 and words[0].isdigit() and words[1].isdigit() and words[2] == "json":
            index, restart = int(words[0]), int(words[1])
            found[index] = max(restart, found.get(index, 0))
    return found


def _verdict(folder: Path, index: int, restart: int | None) -> Mapping[str, Any] | None:
    if restart is None:
        return None
    try:
        record = read_json(BatchFolder(folder).verdict(index, restart))
    except ConfigError:
        return None  # damaged by a full disk, perhaps; the stage's own records go on counting
    return None if record is None else {**record, "restart": restart}
