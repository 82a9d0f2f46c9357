"""Lines as a person types them, run to their end, and what they leave in the store."""

import contextlib
import io
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from launch import job
from launch.executors import local
from launch.pipeline import main
from launch.planning.planner import CHECKOUT
from launch.running.machine import Share
from launch.store import Store
from vssl.artifacts import StageFolder, read_json

SMOKE = ("scale=smoke", "executor=local")
ENTRY = CHECKOUT / "launch" / "pipeline.py"


@dataclass(frozen=True)
class Said:
    """What a line said and how it ended."""

    code: int
    out: str
    err: str

    def stages(self, what: str) -> list[str]:
        """Names of the stages of which a line says `what`, as in `finished before` or `done in`; sorted."""
        return sorted(re.findall(rf"^\[\d+/\d+\] (\S+): {what}", self.out, re.MULTILINE))


@dataclass(frozen=True)
class MainLine:
    """The whole pipeline at smoke scale, as a line left it: its store, what it said, and its stages by name."""

    root: Path
    said: Said
    stages: Mapping[str, Any]

    @classmethod
    def run(cls, root: Path) -> "MainLine":
        said = run_line("sweep=vicc_cross", *SMOKE, f"root={root}")
        return cls(root, said, plan_of(root, "vicc_cross"))

    def folder(self, stage: str) -> StageFolder:
        return _folder(self.root, self.stages[stage])


def command(*words: str, entry: Path = ENTRY) -> list[str]:
    return [sys.executable, str(entry), *words]


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what helps to find the packages, or names a store."""
    hidden = ("PYTHONPATH", "VSSL_ROOT", "SLURM_JOB_ID")
    return {name: value for name, value in os.environ.items() if name not in hidden} | changes


def run_line(*words: str, cwd: Path | str = "/", entry: Path = ENTRY, **options: Any) -> Said:
    """A line in a process of its own, without an install and from a folder that is not the checkout."""
    done = subprocess.run(
        command(*words, entry=entry), cwd=cwd, env=environment(), capture_output=True, text=True, **options
    )
    return Said(done.returncode, done.stdout, done.stderr)


class _Here:
    """Stands for the processes of a stage: the job runs in this process, which saves the seconds of a start."""

    def __init__(self, folder: StageFolder, batch: Path, index: int, share: Share) -> None:
        self.folder, self.share, self.nonce = folder, share, uuid.uuid4().hex[:12]
        self.log = folder.logs / f"{self.nonce}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with (
            open(self.log, "w") as stream,
            contextlib.redirect_stdout(stream),
            contextlib.redirect_stderr(stream),
            mock.patch.dict(os.environ, VSSL_ATTEMPT=self.nonce),
        ):
            self._code = job.main([str(batch), str(index)])

    def poll(self) -> list[int]:
        return [self._code]


def run_here(*words: str) -> Said:
    """A line in this process, and its stages too: everything is real but the processes."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(local, "Children", _Here),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(list(words))
    return Said(code, out.getvalue(), err.getvalue())


def stage_folders(root: Path) -> dict[str, str]:
    """Folder name -> stage name of everything that was ever started in a store."""
    attempts = (root / "stages").glob("*/attempts/1.json")
    return {path.parent.parent.name: _read(path)["name"] for path in attempts}


def plan_of(root: Path, sweep: str) -> Mapping[str, Any]:
    """Stage name -> planned stage, of the newest pipeline of a sweep."""
    folders = sorted((root / "pipelines").glob(f"{sweep}-*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
    return {stage["name"]: stage for stage in _read(folders[-1])["stages"]}


def folder_of(root: Path, sweep: str, stage: str) -> StageFolder:
    """The folder of a stage of the newest pipeline of a sweep."""
    return _folder(root, plan_of(root, sweep)[stage])


def _folder(root: Path, planned: Mapping[str, Any]) -> StageFolder:
    return Store(root).stage(f"{planned['kind']}-{planned['stage_id']}")


def starts(root: Path) -> int:
    """Number of attempts that any stage of a store has seen."""
    return sum(1 for _ in (root / "stages").glob("*/attempts/*.json"))


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Path -> (size, time) of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns) for path in _walk(folder)
    }


def _walk(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _read(path: Path) -> Any:
    value = read_json(path)
    assert value is not None, path
    return value
