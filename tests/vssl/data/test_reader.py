"""Loader processes: how they die is said where they are waited for, and what they do can be looked at."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import get_context

import pytest
import torch

from vssl.data.reader import Reader
from vssl.run import StageError


def fatal(key: tuple[int, int]) -> int:
    """Reads a key; one of them kills the process that reads it, another ends it."""
    if key == (1, 5):
        os.kill(os.getpid(), signal.SIGKILL)
    if key == (2, 5):
        os._exit(7)
    return key[1]


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader(fatal, list, name=lambda key: f"video {key[1]}", workers=2, prefetch=1, pin=False)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("epoch", "said"), [(1, "died of SIGKILL while reading video 5.* not enough memory"), (2, "died of exit code 7")]
)
def test_a_loader_process_that_dies_is_named_with_what_it_read(reader: Reader, epoch: int, said: str) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    results = reader.read([[(epoch, first), (epoch, first + 1)] for first in range(0, 12, 2)])
    assert next(results) == [0, 1]
    # Between two results nothing may interrupt what the training process does: it could be saving.
    assert signal.getsignal(signal.SIGCHLD) == before
    with pytest.raises(StageError, match=f"loader process 0 .*{said}"):
        list(results)
    reader.close()
    assert list(reader.read([[(0, 5)], [(0, 6)]])) == [[5], [6]]  # new processes go on


def test_states_tell_what_each_process_has_done(reader: Reader) -> None:
    assert reader.states() == []
    assert list(reader.read([[(0, 1), (0, 2)], [(0, 3)], [(0, 4), (0, 5)]])) == [[1, 2], [3], [4, 5]]
    states = reader.states()
    assert [state.number for state in states] == [0, 1]
    assert [state.items for state in states] == [4, 1]
    assert all(state.key is None and state.busy_s >= 0 for state in states)
    assert len({state.pid for state in states} | {os.getpid()}) == 3


def test_what_a_process_is_reading_can_be_seen() -> None:
    released = get_context("fork").Event()

    def slow(key: int) -> int:
        assert released.wait(60)
        return key

    reader, found = Reader(slow, list, workers=1, prefetch=1, pin=False), []
    waiting = threading.Thread(target=lambda: found.extend(reader.read([[41], [42]])))
    waiting.start()
    deadline = time.monotonic() + 30
    while not (states := [state for state in reader.states() if state.key is not None]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    released.set()
    waiting.join()
    reader.close()
    assert [state.key for state in states] == [41]
    assert found == [[41], [42]]


def test_no_processes_no_states() -> None:
    reader = Reader(lambda key: key + 1, sum, workers=0, prefetch=2, pin=False)
    assert list(reader.read([[1, 2], [3]])) == [5, 4]
    assert reader.states() == []


def test_other_runtime_errors_stay_what_they_are() -> None:
    def fail(key: int) -> int:
        raise RuntimeError(f"out of luck at {key}")

    for workers in (0, 1):
        reader = Reader(fail, list, workers=workers, prefetch=1, pin=False)
        with pytest.raises(RuntimeError, match="out of luck at 3"):
            list(reader.read([[3]]))
        reader.close()


def test_processes_work_ahead_by_the_bound_and_no_further() -> None:
    count = get_context("fork").Value("i", 0)

    def counted(key: int) -> int:
        with count.get_lock():
            count.value += 1
        return key

    ahead, total = 3, 20
    reader = Reader(counted, list, workers=1, prefetch=ahead, pin=False)
    for taken, found in enumerate(reader.read([[key] for key in range(total)]), start=1):
        assert found == [taken - 1]
        deadline = time.monotonic() + 30
        while count.value < min(taken + ahead, total):  # it does work ahead
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert count.value <= taken + ahead
    reader.close()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a GPU")
def test_what_a_process_read_for_a_gpu_lies_in_page_locked_memory() -> None:
    reader = Reader(lambda key: torch.full((2,), key), torch.stack, workers=1, prefetch=1, pin=True)
    (found,) = reader.read([[1, 2]])
    assert found.is_pinned()
    reader.close()
