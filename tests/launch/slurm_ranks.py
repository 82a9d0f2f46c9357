"""A job of probes whose ranks are started by hand, with the variables that Slurm would give them."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from launch.plan import PlannedStage
from launch.running.batch_folder import BatchFolder
from launch.store import Store
from tests.launch.slurm_batches import job_environment, make_batch
from vssl.artifacts import StageFolder, read_json


class Job:
    """A batch of probes, and the processes of its elements."""

    def __init__(
        self, store: Store, *stages: PlannedStage, ranks: int = 1, policy: Mapping[str, Any] | None = None
    ) -> None:
        self.store = store
        self.stages = stages
        self.ranks = ranks
        self.batch = BatchFolder(make_batch(store, stages, ranks=ranks, policy=policy))
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, rank: int = 0, index: int = 1, restart: int = 0, **more: str) -> "subprocess.Popen[bytes]":
        environment = job_environment(rank, self.ranks, index, restart) | more
        words = [sys.executable, "-P", "-m", "launch.job", str(self.batch.root)]
        with open(self.batch.rank_log(index, rank), "ab") as log:
            child = subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd="/")
        self.started.append(child)
        return child

    def run(self, rank: int = 0, index: int = 1, restart: int = 0, **more: str) -> tuple[int, str]:
        """(exit code, what was printed)."""
        code = self.start(rank, index, restart, **more).wait(60)
        return code, self.batch.rank_log(index, rank).read_text()

    def record(self, rank: int = 0, index: int = 1, restart: int = 0) -> Any:
        return read_json(self.batch.exit_record(index, str(restart), rank))

    def folder(self, index: int = 1) -> StageFolder:
        return self.store.stage(self.stages[index - 1].folder)

    def end(self) -> None:
        """Nothing stays behind."""
        for child in self.started:
            child.kill()
            child.wait()
