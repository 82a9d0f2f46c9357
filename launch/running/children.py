"""The processes of one running stage: one per rank, each in a process group of its own, logging into the stage."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from launch.exit_codes import TRY_AGAIN
from launch.provenance import search_path
from launch.running.machine import Share
from vssl.artifacts import StageFolder

# What another launcher may have left in the environment: our ranks must not take themselves for parts of its job.
FOREIGN = ("SLURM_", "TORCHELASTIC_", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "VSSL_")
RANK_GRACE_S = 10.0  # from the failure of one rank to the end of the others
SAVE_GRACE_S = 600.0  # the same where a rank has stopped by request, and another may still be saving


class Children:
    """Start, watch and stop the ranks of a stage."""

    def __init__(self, folder: StageFolder, batch: Path, index: int, share: Share) -> None:
        self.folder = folder
        self.share = share
        self.nonce = uuid.uuid4().hex[:12]
        self.log = folder.logs / f"{self.nonce}.log"
        self.started_s = time.monotonic()
        self._first_end_s: float | None = None
        folder.logs.mkdir(parents=True, exist_ok=True)
        self._ranks = [self._start(batch, index, rank) for rank in range(share.ranks)]

    def poll(self) -> list[int] | None:
        """Exit codes of all ranks once the last one has ended, else None. One dead rank takes the others with it."""
        codes = [rank.poll() for rank in self._ranks]
        ended = [code for code in codes if code is not None]
        if len(ended) == len(codes):
            self.kill()  # loader processes that outlived their rank
            return ended
        if any(code != 0 for code in ended):
            now = time.monotonic()
            if self._first_end_s is None:
                self._first_end_s = now
                self.terminate()
            elif now - self._first_end_s > (SAVE_GRACE_S if TRY_AGAIN in ended else RANK_GRACE_S):
                self.kill()
        return None

    def terminate(self) -> None:
        """Ask every rank to save and stop."""
        for rank in self._ranks:
            if rank.poll() is None:
                rank.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End every process of the stage at once."""
        for rank in self._ranks:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(rank.pid, signal.SIGKILL)

    def _start(self, batch: Path, index: int, rank: int) -> subprocess.Popen[bytes]:
        log = self.log if rank == 0 else self.folder.logs / f"{self.nonce}.rank{rank}.log"
        with open(log, "ab") as stream:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "launch.job", str(batch), str(index)],
                env=self._environment(rank),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal reaches the queue alone, which passes it on in order
            )

    def _environment(self, rank: int) -> Mapping[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        ours = {
            "PYTHONPATH": search_path(),
            "PYTHONUNBUFFERED": "1",
            "CUDA_VISIBLE_DEVICES": ",".join(self.share.gpus),
            "VSSL_LAUNCHED": "1",
            "VSSL_ATTEMPT": self.nonce,
        }
        if self.share.ranks > 1:
            ours |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(self.share.ranks),
                "VSSL_RENDEZVOUS": str(self.folder.rendezvous / f"{self.nonce}.json"),
            }
        return {**inherited, **ours}


def last_line(log: Path) -> str:
    """The last line that a stage wrote; nothing where it wrote none."""
    try:
        with open(log, "rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 4096))
            lines = stream.read().decode(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return lines[-1] if lines else ""


def newest_log(folder: StageFolder) -> Path | None:
    """The log of the newest attempt's rank 0."""
    logs = [path for path in folder.logs.glob("*.log") if ".rank" not in path.name]
    return max(logs, key=lambda path: path.stat().st_mtime, default=None)
