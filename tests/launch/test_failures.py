import errno

import pytest

from launch.running.failures import ending_of, is_known
from vssl.artifacts import StageFolder
from vssl.config import ConfigError
from vssl.run import LostRankError, StageError, SupersededError


class OutOfMemoryError(RuntimeError):
    """As torch's, which this test does not load."""


class DistBackendError(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("error", "cause", "code", "lost_rank"),
    [
        (RuntimeError("no"), "exception", 1, False),
        (StageError("diverged"), "exception", 1, False),
        (ConfigError("data changed"), "bad_input", 2, False),
        (SystemExit(3), "exception", 1, False),
        (SupersededError("a newer attempt"), "elsewhere", 75, False),
        (LostRankError("1 of 2 ranks met"), "exception", 1, True),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory", 1, False),
        (MemoryError(), "out_of_memory", 1, False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory", 1, False),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "killed", 1, False),
        (RuntimeError("[pair.cc:534] Connection closed by peer [10.0.0.1]:4711"), "exception", 1, True),
        (DistBackendError("NCCL error: unhandled system error"), "exception", 1, True),
        (ConnectionResetError("Connection reset by peer"), "exception", 1, False),
    ],
)
def test_endings(error, cause, code, lost_rank, tmp_path):
    ending = ending_of(error, StageFolder(tmp_path))
    assert (ending.cause, ending.code, ending.lost_rank) == (cause, code, lost_rank)


def test_what_a_person_is_told(tmp_path):
    assert ending_of(ValueError("no"), StageFolder(tmp_path)).error == "ValueError: no"
    assert ending_of(StageError("do this"), StageFolder(tmp_path)).error == "do this"
    full = OSError(errno.ENOSPC, "No space left on device")
    assert "free some: the same line goes on" in ending_of(full, StageFolder(tmp_path)).error
    assert is_known(full)
    assert is_known(StageError("do this"))
    assert not is_known(ValueError("no"))
