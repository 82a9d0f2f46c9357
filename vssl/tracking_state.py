"""What a pipeline's files say that a tracker should show. Torch-free, and knows no tracker.

Everything is read from the folders that jobs write: `plan.json` of the pipeline, and of each stage the attempts, the
checkpoints' manifests and the completion record. Only what can no longer be taken back is shown: rows of the journal
up to the newest checkpoint, since a resumed stage cuts its journal there.
"""

import hashlib
import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from vssl.artifacts import StageFolder, canonical_json, read_json, sha256_text

Status = Literal["waiting", "running", "stopped", "failed", "done"]

LOST_S = 120.0  # age of the beat of an attempt that is shown as lost; if it beats again, it is shown as running again


@dataclass(frozen=True, kw_only=True)
class StageState:
    """One stage of a pipeline as its files show it."""

    planned: Mapping[str, Any]  # the stage's entry in plan.json
    folder: StageFolder
    status: Status
    started_at_ms: int = 0  # of the first attempt
    ended_at_ms: int = 0  # of the last one; 0 while it runs
    attempts: int = 0
    journal_bytes: int = 0  # rows up to here are settled
    cause: str = ""  # why the last attempt ended, where it did not succeed
    source: str = ""  # the pipeline that made, or is making, the result, where it is another one
    code_digest: str = ""
    job: str = ""  # of Slurm, of the last attempt
    metrics: Mapping[str, float] = field(default_factory=dict)  # final ones

    @property
    def name(self) -> str:
        return str(self.planned["name"])

    @property
    def generation(self) -> str:
        """Tells a redone stage from its predecessor, which had the same id."""
        return f"{self.planned['stage_id']}@{self.started_at_ms}"

    @property
    def stamp(self) -> list[Any]:
        """Changes whenever there is something new to show of it."""
        ended = [self.generation, self.status, self.ended_at_ms, self.attempts, self.journal_bytes, self.cause]
        return [*ended, self.source]

    @property
    def parents(self) -> list[str]:
        """Names of the stages that it waits for, each once."""
        references = [one for ones in self.planned["inputs"].values() for one in ones]
        names = [*(one.get("stage") for one in references), *self.planned.get("after", ())]
        return [name for name in dict.fromkeys(names) if name is not None]


@dataclass(frozen=True, kw_only=True)
class PipelineFiles:
    """What a pipeline consists of, and where its stages lie."""

    folder: Path
    sweep: str
    scale: str
    planned: Mapping[str, Mapping[str, Any]]  # stage name -> its entry in plan.json; parents stand before children
    roots: tuple[Path, ...]  # the pipeline's own store, then those that are only read

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def root(self) -> Path:
        return self.roots[0]

    @property
    def tracking(self) -> Path:
        """Folder of what processes that push stages of this pipeline leave for one another."""
        return self.folder / "tracking"

    def stage(self, name: str) -> StageState:
        """One stage, as its files show it now."""
        return _read_stage(self.roots, self.planned[name], self.id)


@dataclass(frozen=True, kw_only=True)
class PipelineState:
    """A pipeline and its stages, in the plan's order."""

    files: PipelineFiles
    stages: tuple[StageState, ...]

    @property
    def status(self) -> Status:
        """Done, or failed once nothing is left that could run; stopped where a stage waits for its next start."""
        states = {stage.name: stage for stage in self.stages}
        final = final_status(self.files, states.__getitem__)
        if final is not None:
            return final
        found = {stage.status for stage in self.stages}
        return "stopped" if "stopped" in found and "running" not in found else "running"

    @property
    def stamp(self) -> str:
        """Changes whenever there is something new to show."""
        return sha256_text(canonical_json([stage.stamp for stage in self.stages]))


def read_files(pipeline: Path, read: Sequence[Path] = ()) -> PipelineFiles | None:
    """What a pipeline's plan says; None where the folder holds no plan.

    Args:
        pipeline: `<root>/pipelines/<name>`.
        read: roots of other stores whose finished stages the pipeline may use.
    """
    plan = read_json(pipeline / "plan.json")
    if plan is None:
        return None
    return PipelineFiles(
        folder=pipeline.absolute(),
        sweep=plan["sweep"],
        scale=plan["scale"],
        planned={stage["name"]: stage for stage in plan["stages"]},
        roots=(pipeline.absolute().parent.parent, *read),
    )


def read_pipeline(pipeline: Path, read: Sequence[Path] = ()) -> PipelineState | None:
    """The state of a pipeline; None where the folder holds no plan. Arguments as of `read_files`."""
    files = read_files(pipeline, read)
    return None if files is None else PipelineState(files=files, stages=tuple(map(files.stage, files.planned)))


def final_status(files: PipelineFiles, state_of: Callable[[str], StageState]) -> Literal["done", "failed"] | None:
    """Done, or failed, once nothing of a pipeline is left that could run; asks for as few stages as it can."""
    states = cache(state_of)

    @cache
    def is_lost(name: str) -> bool:
        state = states(name)
        return state.status == "failed" or (state.status != "done" and any(map(is_lost, state.parents)))

    final: Literal["done", "failed"] = "done"
    for name in reversed(list(files.planned)):
        if states(name).status == "done":
            continue
        if states(name).status in ("running", "stopped") or not is_lost(name):
            return None
        final = "failed"
    return final


def read_rows(journal: Path, start: int, end: int) -> list[dict[str, Any]]:
    """Rows of a journal between two byte offsets that stand at ends of lines; none where there is no journal."""
    return [json.loads(line) for line in _read_bytes(journal, start, end).splitlines()]


def tail_digest(journal: Path, end: int) -> str:
    """Tells whether the bytes before an offset are still those that were seen there."""
    return hashlib.sha256(_read_bytes(journal, max(0, end - 1024), end)).hexdigest()[:16]


def _read_bytes(journal: Path, start: int, end: int) -> bytes:
    try:
        with open(journal, "rb") as stream:
            stream.seek(start)
            return stream.read(max(0, end - start))
    except FileNotFoundError:
        return b""


def _read_stage(roots: Sequence[Path], planned: Mapping[str, Any], pipeline: str) -> StageState:
    name = f"{planned['kind']}-{planned['stage_id']}"
    folders = [StageFolder(root / "stages" / name) for root in roots]
    folder = next((one for one in folders if one.done.exists()), folders[0])
    done, attempts = read_json(folder.done), _attempts(folder)
    if done is not None:
        return StageState(
            planned=planned,
            folder=folder,
            status="done",
            started_at_ms=done["started_at_ms"],
            ended_at_ms=done["completed_at_ms"],
            attempts=done["attempts"],
            journal_bytes=done["journal_bytes"],
            source=_source(done, pipeline),
            code_digest=done["code"],
            job=_job(attempts),
            metrics=done["metrics"],
        )
    if not attempts:
        return StageState(planned=planned, folder=folder, status="waiting")
    last = attempts[-1]
    verdict = _verdict(roots[0], last)
    status, cause = _status(last, folder, verdict)
    ended_at_ms = last.get("ended_at_ms") or verdict.get("at_ms") or _last_sign_ms(last, folder)
    return StageState(
        planned=planned,
        folder=folder,
        status=status,
        started_at_ms=attempts[0]["started_at_ms"],
        ended_at_ms=0 if status == "running" else ended_at_ms,
        attempts=len(attempts),
        journal_bytes=_settled_bytes(folder),
        cause=cause,
        source=_source(last, pipeline),
        code_digest=last["code"],
        job=_job(attempts),
    )


def _source(record: Mapping[str, Any], pipeline: str) -> str:
    return "" if record["pipeline"] == pipeline else str(record["pipeline"])


def _attempts(folder: StageFolder) -> list[dict[str, Any]]:
    """Records of all attempts, oldest first."""
    tokens = sorted(int(path.stem) for path in folder.attempts.glob("*.json") if path.stem.isdigit())
    records = (read_json(folder.attempts / f"{token}.json") for token in tokens)
    return [record for record in records if record is not None]


def _job(attempts: Sequence[Mapping[str, Any]]) -> str:
    return str(attempts[-1].get("slurm", {}).get("job", "")) if attempts else ""


def _verdict(root: Path, attempt: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the batch script said at the end of an attempt's job; nothing for one that runs, or that Slurm did not run.

    It alone knows why a process ended that could record nothing.
    """
    slurm = attempt.get("slurm")
    if not slurm:
        return {}
    index = str(slurm["job"]).rpartition("_")[2]
    path = root / "batches" / str(attempt["batch"]) / "settled" / f"{index}.{slurm['restart']}.json"
    return read_json(path) or {}


def _status(attempt: Mapping[str, Any], folder: StageFolder, verdict: Mapping[str, Any]) -> tuple[Status, str]:
    """Status of a stage that is not done, by its last attempt, and the cause of its end."""
    word = str(verdict.get("cause", "")).replace("_", " ")
    said = str(attempt.get("error") or verdict.get("error") or "")
    match attempt.get("outcome"):
        case "done":  # its completion record is about to become visible
            return "running", ""
        case "saved":
            return "stopped", f"stopped and saved ({word})" if word else "stopped and saved"
        case _ if verdict.get("decision") == "requeue":
            return "stopped", f"{word}; requeued"
        case "failed":
            return "failed", said or word or "failed"
        case None if verdict:
            return "failed", ": ".join(filter(None, (word, said)))
        case None if _is_lost(attempt, folder):
            return "stopped", "lost: the process ended without a record"
        case _:
            return "running", ""


def _is_lost(attempt: Mapping[str, Any], folder: StageFolder) -> bool:
    process = attempt["process"]
    here = process["host"] == socket.gethostname() and process.get("pid_namespace") == _pid_namespace()
    if here and not Path(f"/proc/{process['pid']}").exists():
        return True
    return time.time() - _last_sign_ms(attempt, folder) / 1000 > LOST_S


def _pid_namespace() -> str | None:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def _last_sign_ms(attempt: Mapping[str, Any], folder: StageFolder) -> int:
    started = int(attempt["started_at_ms"])
    try:
        return max(started, folder.beat.stat().st_mtime_ns // 1_000_000)
    except FileNotFoundError:
        return started


def _settled_bytes(folder: StageFolder) -> int:
    """Length of the journal at the newest checkpoint."""
    manifests = (read_json(path) or {} for path in folder.checkpoints.glob("*.json"))
    return max((manifest.get("journal_offset", 0) for manifest in manifests), default=0)
