"""Pipelines to be tracked: their files as jobs write them, and a real server to push them to."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vssl.artifacts import StageFolder, write_json
from vssl.run import Journal

START_MS = 1_700_000_000_000
_names = itertools.count()


class Pipeline:
    """A pipeline's files as jobs write them, without the jobs: `single` is read by `retrieval`."""

    def __init__(self, root: Path, sweep: str | None = None, id: str = "") -> None:
        number = next(_names)
        self.root = root
        self.sweep = sweep or f"sweep{number}"
        self.folder = root / "pipelines" / f"{self.sweep}-{id or number}"
        self.ids = {"single": f"{number:016x}", "retrieval": f"{number + 4096:016x}"}
        self.kinds = {"single": "pretrain", "retrieval": "retrieval"}
        self.folder.mkdir(parents=True)
        self.write_plan()

    def write_plan(self) -> None:
        config = {"seed": 3, "optim": {"base_lr": 0.5}, "ks": [1, 5], "note": "x" * 7000}
        stages = []
        for name, kind in self.kinds.items():
            reference = {"id": f"{self.ids['single']}/weights", "type": "weights", "stage": "single"}
            stages.append(
                {
                    "name": name,
                    "template": name,
                    "element": name,
                    "lane": None,
                    "axes": {},
                    "kind": kind,
                    "config": config,
                    "inputs": {"weights": [reference]} if name == "retrieval" else {},
                    "after": [],
                    "resources": {},
                    "stage_id": self.ids[name],
                }
            )
        write_json(self.folder / "plan.json", {"sweep": self.sweep, "scale": "demo", "datasets": {}, "stages": stages})

    def stage(self, name: str) -> StageFolder:
        folder = StageFolder(self.root / "stages" / f"{self.kinds[name]}-{self.ids[name]}")
        for path in (folder.attempts, folder.checkpoints, folder.artifacts / "plots", folder.artifacts / "card"):
            path.mkdir(parents=True, exist_ok=True)
        return folder

    def attempt(self, name: str, token: int, outcome: str | None = None, at_ms: int = START_MS, **more: Any) -> None:
        process = {"host": socket.gethostname(), "pid": os.getpid()}
        record = {"token": token, "process": process, "started_at_ms": at_ms, "pipeline": self.folder.name, "code": "c"}
        ended = {"outcome": outcome, "ended_at_ms": at_ms + 5000} if outcome else {}
        write_json(self.stage(name).attempts / f"{token}.json", record | ended | more)
        self.stage(name).beat.touch()

    def log(self, name: str, steps: range, scale: float = 1.0) -> int:
        journal = Journal(self.stage(name).journal)
        for step in steps:
            journal.append(step, {"loss": scale / (step + 1), "lr": 0.1})
        size = journal.sync()
        journal.close()
        return size

    def checkpoint(self, name: str, step: int, offset: int) -> None:
        write_json(self.stage(name).checkpoints / f"{step}.json", {"step": step, "journal_offset": offset})

    def done(self, name: str, metrics: dict[str, float], at_ms: int = START_MS + 9000) -> None:
        folder = self.stage(name)
        attempts = sorted(folder.attempts.glob("*.json"))
        size = folder.journal.stat().st_size if folder.journal.exists() else 0
        write_json(folder.config, {"config": {}})
        write_json(folder.result, {"metrics": metrics})
        (folder.artifacts / "plots" / "loss.png").write_bytes(b"\x89PNG")
        if self.kinds[name] == "pretrain":
            (folder.artifacts / "card" / "model_card.md").write_text("# A card\n")
        record = {"metrics": metrics, "journal_bytes": size, "attempts": len(attempts), "code": "c"}
        started = json.loads(attempts[0].read_text())["started_at_ms"]
        times = {"started_at_ms": started, "completed_at_ms": at_ms}
        write_json(folder.done, record | times | {"pipeline": self.folder.name})


def finished(root: Path, **names: str) -> Pipeline:
    """A pipeline whose two stages are done: six steps of `single`, then `retrieval`."""
    pipeline = Pipeline(root, **names)
    pipeline.attempt("single", 1, "done")
    pipeline.log("single", range(6))
    pipeline.done("single", {"loss_last": 0.2})
    pipeline.attempt("retrieval", 1, "done", at_ms=START_MS + 10_000)
    pipeline.done("retrieval", {"recall_at_1": 0.5}, at_ms=START_MS + 12_000)
    return pipeline


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    """A real MLflow server on this machine, with its database and files in a folder; its address."""
    uri = f"http://127.0.0.1:{port}"
    words = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    places = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/files"]
    # Its helpers for chat applications, eight processes, have nothing to do here.
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(folder / "server.log", "ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words, *places],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _await(f"{uri}/health", server, folder / "server.log")
        yield uri
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # it holds nothing that anybody reads again
        server.wait()


def _await(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())
