"""Stages tried one after another, short and interrupted once: `python -m launch.trials.rehearsal FOLDER`.

FOLDER/tasks.json names them; each leaves FOLDER/<number>/report.json, its log and what it made, for those that read it.
Each stage is run twice: the first run is asked to stop after its first step, the second one goes on from what the first
one saved and completes. The stages know of none of this. A process that dies at one stage is started again for the
rest: what has a report is not tried again.
"""

import os
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.exit_codes import BAD_INPUT, DONE
from launch.running.redaction import redact
from vssl.artifacts import Artifact, StageFolder, digest, read_json, write_json
from vssl.config import ConfigError, build
from vssl.run import Run, StageError, Stopped
from vssl.stages import STAGES, resolve


class CountedRun(Run):
    """A run that remembers its steps, and is asked to stop after the first one if `stops`."""

    def __init__(self, folder: StageFolder, *, stops: bool) -> None:
        super().__init__(folder, stop_requested=lambda: stops and bool(self.steps))
        self.steps: list[int | None] = []

    def beat(self, step: int | None = None, steps: int | None = None) -> None:
        self.steps.append(step)
        super().beat(step, steps)


def main(arguments: list[str] | None = None) -> int:
    """Try every task that has no report yet; what a stage raises is in its report."""
    words = sys.argv[1:] if arguments is None else arguments
    folder = Path(words[0])
    os.nice(10)  # often on a machine that many people log in to
    try:
        _make_excerpts(folder)
    except Exception as error:  # nothing can be tried without data
        print(redact(f"{type(error).__name__}: {error}", os.environ), flush=True)
        return BAD_INPUT
    tasks = read_json(folder / "tasks.json")
    for number, task in enumerate(tasks):
        place = folder / str(number)
        if not (place / "report.json").exists():
            place.mkdir(exist_ok=True)
            _log_to(place / "log")
            write_json(place / "report.json", _rehearse(task, place, folder))
    return DONE


def _make_excerpts(folder: Path) -> None:
    for key, wanted in read_json(folder / "excerpts.json").items():
        target = folder / "sources" / key
        if not (target / "source.json").exists():
            excerpt = resolve("vssl.data.preparing.excerpt:excerpt")
            excerpt(Path(wanted["source"]), target, videos=wanted["videos"], min_frames=wanted["min_frames"])


def _log_to(path: Path) -> None:
    """From now on, whatever this process and its children print goes to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _rehearse(task: Mapping[str, Any], place: Path, folder: Path) -> dict[str, Any]:
    started = time.monotonic()
    for one in (one for ones in task["inputs"].values() for one in ones if "task" in one):
        if "artifacts" not in read_json(folder / str(one["task"]) / "report.json"):
            return {"waits_for": one["stage"]}
    try:
        found = _try(task, StageFolder(place / f"{task['kind']}-rehearsal"), folder)
    except Exception as error:
        traceback.print_exc()
        known = isinstance(error, StageError | ConfigError)
        said = str(error) if known else traceback.format_exception_only(error)[-1].strip()
        found = {"error": redact(said, os.environ), "code": BAD_INPUT if isinstance(error, ConfigError) else 1}
    return {**found, "seconds": round(time.monotonic() - started, 2)}


def _try(task: Mapping[str, Any], folder: StageFolder, base: Path) -> dict[str, Any]:
    kind = STAGES[task["kind"]]
    config = build(kind.config_class(), task["config"])
    inputs = {role: tuple(_artifact(one, base) for one in ones) for role, ones in task["inputs"].items()}
    for path in (folder.checkpoints, folder.artifacts, folder.logs):
        path.mkdir(parents=True)
    first, second = CountedRun(folder, stops=True), CountedRun(folder, stops=False)
    stopped, checkpoint = False, 0
    try:
        kind.load()(config, inputs, first)
    except Stopped as stop:
        print(f"stopped on purpose: {stop}", flush=True)
        stopped, checkpoint = True, _size(folder.checkpoints)
        kind.load()(config, inputs, second)
        if checkpoint and first.steps[-1:] == second.steps[:1]:
            raise StageError(f"it saved a checkpoint at step {first.steps[-1]} and did not go on from there") from None
    finally:
        for run in (first, second):
            run.close()
    artifacts = {}
    for name, type_ in kind.makes.items():
        path = folder.artifacts / name
        if path.exists():
            artifacts[name] = {"type": type_, "bytes": _size(path)}
        elif type_ != "plots":
            raise StageError(f"it promised the artifact {name} and did not make it")
    return {
        "steps": len(first.steps) + len(second.steps),
        "stopped": stopped,
        "checkpoint_bytes": checkpoint,
        "artifacts": artifacts,
    }


def _artifact(one: Mapping[str, Any], folder: Path) -> Artifact:
    """An input: of a stage tried before, an excerpt of a dataset, or what is really there."""
    if "task" in one:
        made = next((folder / str(one["task"])).glob("*-rehearsal"))
        path = StageFolder(made).artifacts / one["artifact"]
        return Artifact(type=one["type"], path=path, digest=digest(path)[0], origin=made.name)
    if "dataset" in one:
        path = folder / "sources" / one["dataset"]
        record = read_json(path / "source.json")
        return Artifact(type=one["type"], path=path, digest=record["digest"], origin=f"source:{record['name']}")
    return Artifact(type=one["type"], path=Path(one["path"]), digest=one["digest"], origin=one["origin"])


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    sys.exit(main())
