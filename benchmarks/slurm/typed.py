"""Lines as a person types them, each in a process of its own, and every command of Slurm's that they ran."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.slurm.figures import Bench
from launch.provenance import CHECKOUT

COMMANDS = ("sbatch", "scontrol", "scancel", "squeue", "sacct", "sacctmgr", "sinfo")
SMALL = {"cpus_per_task": 1, "mem_gb": 1, "timeout_min": 10}
_CHANGES = ("release", "requeue", "update", "hold")  # of scontrol's verbs; the others only ask


@dataclass(frozen=True, kw_only=True)
class Call:
    """One command of Slurm's."""

    ended_s: float  # after the line was typed
    words: tuple[str, ...]

    @property
    def writes(self) -> int:
        """Calls that change something: one for each job that it names."""
        name, *rest = self.words
        if name == "sbatch":
            return 0 if "--test-only" in rest else 1
        if name == "scontrol" and rest[0] in _CHANGES:
            return len(rest[1].split(",")) if rest[0] == "release" else 1
        return sum(not word.startswith("-") for word in rest) if name == "scancel" else 0


@dataclass(frozen=True, kw_only=True)
class Typed:
    """What became of a line."""

    code: int
    out: str
    err: str
    took_s: float
    calls: Sequence[Call]

    @property
    def writes(self) -> int:
        return sum(call.writes for call in self.calls)

    def of(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.words[0] == name]

    @property
    def first_job_s(self) -> float:
        """When Slurm had taken the first job."""
        return next(call.ended_s for call in self.of("sbatch"))

    @property
    def released_s(self) -> float:
        """When the jobs could start."""
        return next(call.ended_s for call in self.of("scontrol") if call.words[1] == "release")

    def well(self) -> "Typed":
        """Itself, if it ended with 0."""
        assert self.code == 0, f"exit code {self.code}: {self.out[-500:]} {self.err[-2000:]}"
        return self


class Prompt:
    """Where lines are typed.

    Args:
        bench: whose newest cluster they talk to.
        checkout: whose launcher they start.
    """

    def __init__(self, bench: Bench, checkout: Path = CHECKOUT) -> None:
        self.bench = bench
        self.checkout = checkout

    def submit(self, sweep: Path, root: Path, *words: str, **options: Any) -> Typed:
        """`python launch/pipeline.py sweep=...` on the cluster."""
        line = [f"sweep={sweep}", "executor=slurm", "cluster=sandbox", f"root={root}", *words]
        return self.type("launch/pipeline.py", *line, **options)

    def vssl(self, verb: str, root: Path, *words: str, **options: Any) -> Typed:
        return self.type("launch/cli.py", verb, f"--root={root}", *words, **options)

    def type(
        self,
        entry: str,
        *words: str,
        listen: bool = True,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 600.0,
    ) -> Typed:
        """A line, run to its end.

        Args:
            entry: file of the checkout.
            words: what follows.
            listen: to the commands that it runs, which costs each of them a few milliseconds.
            environment: what is added to this process's.
            timeout_s: for the line.
        """
        watched = self.bench.place("calls")
        search = f"{_listeners(watched)}{os.pathsep}{os.environ['PATH']}" if listen else os.environ["PATH"]
        began_s = time.time()
        done = subprocess.run(
            [sys.executable, str(self.checkout / entry), *words],
            cwd="/",
            env={**os.environ, "PATH": search, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        took_s = time.time() - began_s
        return Typed(
            code=done.returncode, out=done.stdout, err=done.stderr, took_s=took_s, calls=_heard(watched, began_s)
        )

    def start(self, entry: str, *words: str, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """A line that may be killed; nobody reads what it says."""
        line = [sys.executable, str(self.checkout / entry), *words]
        return subprocess.Popen(
            line,
            cwd="/",
            env={**os.environ, **(environment or {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )


def _listeners(folder: Path) -> Path:
    """Programs under the names of Slurm's that write down what they are asked, and ask the real ones."""
    programs = folder / "bin"
    programs.mkdir()
    for name in COMMANDS:
        path = programs / name
        note = f'echo "$EPOCHREALTIME {name} $*" >> {folder}/calls'
        path.write_text(f'#!/bin/bash\n{shutil.which(name)} "$@"\ncode=$?\n{note}\nexit $code\n')
        path.chmod(0o755)
    return programs


def _heard(folder: Path, began_s: float) -> list[Call]:
    path = folder / "calls"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [
        Call(ended_s=float(line[0]) - began_s, words=tuple(line[1:]))
        for line in lines
        if len(line) > 1 and line[1] in COMMANDS
    ]


def write_sweep(
    path: Path, stages: Sequence[Mapping[str, Any]], grid: Mapping[str, Mapping[str, Sequence[Any]]] | None = None
) -> Path:
    """A sweep's file; JSON is YAML."""
    path.write_text(json.dumps({"stages": stages} | ({"grid": grid} if grid else {}), indent=1))
    return path


def probe(name: str, *before: str, resources: Mapping[str, Any] = SMALL, **more: Any) -> dict[str, Any]:
    """A template of a sweep: a small probe that reads what some others wrote."""
    inputs = {"inputs": {"before": before[0]}} if before else {}
    return {"name": name, "kind": "probe", **inputs, "output": name, "resources": dict(resources), **more}
