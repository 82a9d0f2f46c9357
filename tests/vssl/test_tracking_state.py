"""What is to be pushed of a pipeline, read from its files: no server, no MLflow."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tracked import START_MS, Pipeline, finished
from vssl.artifacts import write_json
from vssl.tracking_state import read_pipeline

CHECKOUT = Path(__file__).resolve().parents[2]


def test_a_killed_process_does_not_run_for_ever(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    namespace = str(Path("/proc/self/ns/pid").readlink())
    process = {"host": socket.gethostname(), "pid": gone.pid, "pid_namespace": namespace}
    pipeline.attempt("single", 1, process=process)
    state = read_pipeline(pipeline.folder)
    assert state is not None
    assert state.stages[0].status == "stopped"
    assert state.stages[0].cause.startswith("lost")

    far = {"host": "another-node", "pid": 1}
    pipeline.attempt("single", 1, process=far, at_ms=int(time.time() * 1000))
    state = read_pipeline(pipeline.folder)
    assert state is not None
    assert state.stages[0].status == "running", "a fresh beat of a process that cannot be looked at"


@pytest.mark.parametrize(
    ("outcome", "verdict", "status", "cause"),
    [
        (None, {"cause": "out_of_memory", "error": "", "decision": "end"}, "failed", "out of memory"),
        (None, {"cause": "killed", "error": "rank 1: SIGKILL", "decision": "end"}, "failed", "killed: rank 1: SIGKILL"),
        (None, {"cause": "node_failure", "error": "", "decision": "requeue"}, "stopped", "node failure; requeued"),
        ("saved", {"cause": "preempted", "decision": "requeue"}, "stopped", "stopped and saved (preempted)"),
        ("failed", {"cause": "exception", "decision": "end"}, "failed", "it broke"),
        (
            "failed",
            {"cause": "node_failure", "error": "n2", "decision": "requeue"},
            "stopped",
            "node failure; requeued",
        ),
    ],
)
def test_what_a_process_could_not_record_its_batch_script_did(
    tmp_path: Path, outcome: str | None, verdict: dict[str, Any], status: str, cause: str
) -> None:
    pipeline = Pipeline(tmp_path)
    slurm = {"job": "12_7", "restart": 2}
    error = {"error": "it broke"} if outcome == "failed" else {}
    pipeline.attempt("single", 1, outcome, batch="b", slurm=slurm, **error)
    for restart, said in ((1, {"cause": "preempted", "decision": "requeue"}), (2, verdict)):
        path = tmp_path / "batches" / "b" / "settled" / f"7.{restart}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**said, "at_ms": START_MS + 7000})
    state = read_pipeline(pipeline.folder)
    assert state is not None
    assert (state.stages[0].status, state.stages[0].cause) == (status, cause)
    assert state.stages[0].ended_at_ms == START_MS + (5000 if outcome else 7000)
    assert state.stages[0].job == "12_7"


def test_asking_whether_to_push_does_not_import_mlflow(tmp_path: Path) -> None:
    pipeline = finished(tmp_path)
    code = (
        "import sys; from pathlib import Path; from vssl.tracking import needs_sync; "
        "assert needs_sync(Path(sys.argv[1])); "
        "sys.exit(sum(name in sys.modules for name in ('mlflow', 'torch', 'pandas', 'sqlalchemy')))"
    )
    command = [sys.executable, "-c", code, str(pipeline.folder)]
    assert subprocess.run(command, check=False, cwd=CHECKOUT).returncode == 0
