"""Seconds to push a pipeline of many finished stages to MLflow's SQLite file, and to see that nothing is left to push.

python benchmarks/tracking_push.py [STAGES]
"""

import os
import socket
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from vssl.artifacts import StageFolder, write_json
from vssl.run import Journal
from vssl.tracking import needs_sync, sync

ROWS = 100


def write_pipeline(root: Path, stages: int) -> Path:
    """The files that a pipeline of probes leaves behind."""
    pipeline = root / "pipelines" / "benchmark-0"
    pipeline.mkdir(parents=True)
    now_ms = time.time_ns() // 1_000_000
    planned = []
    for number in range(stages):
        stage_id = f"{number:016x}"
        folder = StageFolder(root / "stages" / f"probe-{stage_id}")
        folder.attempts.mkdir(parents=True)
        journal = Journal(folder.journal)
        for step in range(ROWS):
            journal.append(step, {"loss": 1 / (step + 1), "lr": 0.1})
        size = journal.sync()
        journal.close()
        common = {"started_at_ms": now_ms, "pipeline": pipeline.name, "code": "0" * 64}
        process = {"host": socket.gethostname(), "pid": os.getpid()}
        write_json(folder.attempts / "1.json", {**common, "process": process, "outcome": "done", "ended_at_ms": now_ms})
        done = {"completed_at_ms": now_ms, "metrics": {"top1": 0.5}, "journal_bytes": size, "attempts": 1}
        write_json(folder.done, {**common, **done})
        names = {"name": f"probe.{number}", "template": "probe", "lane": number, "kind": "probe", "stage_id": stage_id}
        planned.append({**names, "config": {"seed": number}, "inputs": {}, "after": []})
    write_json(pipeline / "plan.json", {"sweep": "benchmark", "scale": "smoke", "stages": planned})
    return pipeline


def main() -> None:
    stages = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        pipeline = write_pipeline(Path(folder), stages)
        uri = f"sqlite:///{folder}/mlflow.db"
        started = time.perf_counter()
        report = sync(pipeline, uri)
        took = time.perf_counter() - started
        assert report, report.problem
        print(f"{stages} stages, {report.metrics:,} values: {took:.1f} s, the opening of the database included")
        started = time.perf_counter()
        assert not needs_sync(pipeline, uri)
        print(f"seeing that nothing is new: {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
