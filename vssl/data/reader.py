"""Runs a dataset over lists of keys, in this process or in loader processes, and keeps their order."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from vssl.data.processes import IGNORED_SIGNALS, ignore_signals
from vssl.data.worker_board import WorkerBoard, WorkerState
from vssl.run import StageError

Fetch = Callable[[Any], Any]  # key -> item
Collate = Callable[[list[Any]], Any]  # items of one list of keys -> what the reader yields
Name = Callable[[Any], str]  # key -> what a person calls it

_END: Any = object()


class Reader:
    """Yields `collate([fetch(key) for key in keys])` for each list of keys.

    Loader processes live on from one call of `read` to the next. At most `workers * prefetch` results wait.

    Args:
        fetch: called in a loader process, if there are any; must not depend on the process.
        collate: called where `fetch` was.
        name: of keys, for reports.
        workers: loader processes; 0 for none.
        prefetch: lists of keys that each process works ahead.
        pin: put tensors into page-locked memory, for a GPU.
    """

    def __init__(
        self, fetch: Fetch, collate: Collate, *, name: Name = str, workers: int, prefetch: int, pin: bool
    ) -> None:
        self._board = WorkerBoard(workers)
        self._items, self._collate = _Items(fetch, self._board), _Collate(collate)
        self._name, self._workers, self._prefetch, self._pin = name, workers, prefetch, pin
        self._keys = _Keys()
        self._loader: DataLoader[Any] | None = None

    def read(self, keys: Sequence[list[Any]]) -> Iterator[Any]:
        """
        Raises:
            StageError: as raised by `fetch`, or a loader process died; the message says of what and over which item.
        """
        if self._workers:
            self._keys.now = keys
            self._loader = self._loader or self._start()
            results = _without_interruption(self._loader)
        else:
            results = (self._read_here(some) for some in keys)
        while True:
            try:
                result = next(results, _END)
            except RuntimeError as error:
                dead = "; ".join(map(self._obituary, self._dead()))
                if not dead:
                    raise
                self.close()
                raise StageError(dead) from error
            if result is _END:
                return
            if isinstance(result, _Unusable):
                raise StageError(result.message)
            yield result

    def states(self) -> list[WorkerState]:
        """What each loader process has done and is doing."""
        return self._board.states()

    def close(self) -> None:
        """End the loader processes, whoever still holds on to what they read; a later `read` starts new ones."""
        iterator, self._loader = getattr(self._loader, "_iterator", None), None
        if iterator is not None:
            iterator._shutdown_workers()
            for process in iterator._workers:
                process.kill()  # what did not end in time: at exit it would be waited for

    def _read_here(self, keys: list[Any]) -> Any:
        # As in a loader process: sums over pixels depend on the number of threads that share them.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._collate([self._items[key] for key in keys])
        finally:
            torch.set_num_threads(threads)

    def _start(self) -> DataLoader[Any]:
        return DataLoader(
            self._items,
            batch_sampler=self._keys,
            num_workers=self._workers,
            prefetch_factor=self._prefetch,
            persistent_workers=True,
            collate_fn=self._collate,
            worker_init_fn=_Begin(self._board),
            generator=torch.Generator(),  # else every epoch would draw from the global generator
            pin_memory=self._pin,
            multiprocessing_context="fork",
        )

    def _dead(self) -> list[tuple[WorkerState, int]]:
        """Loader processes that have ended on their own, with their exit codes."""
        processes = getattr(getattr(self._loader, "_iterator", None), "_workers", ())
        codes = {process.pid: process.exitcode for process in processes}
        return [(state, codes[state.pid]) for state in self.states() if codes.get(state.pid)]

    def _obituary(self, death: tuple[WorkerState, int]) -> str:
        state, code = death
        cause = f"exit code {code}" if code > 0 else f"{signal.Signals(-code).name}"
        over = "between two items" if state.key is None else f"while reading {self._name(state.key)}"
        hint = ""
        if code == -signal.SIGKILL:
            hint = ": most often there was not enough memory; take fewer runtime.workers or a smaller runtime.prefetch"
        if code == -signal.SIGBUS:
            hint = ": most often shared memory (/dev/shm) was full; take fewer runtime.workers or runtime.prefetch"
        return (
            f"loader process {state.number} (pid {state.pid}) died of {cause} {over}, after {state.items} items{hint}"
        )


def _without_interruption(loader: DataLoader[Any]) -> Iterator[Any]:
    """Iterate; when a loader process dies, fail where its result is waited for.

    The data loader's signal handler would raise wherever this process happens to be: in a step, or in the middle of
    writing a checkpoint. Signals to the job wait until its new processes ignore them.
    """
    before = signal.getsignal(signal.SIGCHLD)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


class _Unusable:
    """An error that a person can mend, on its way out of a loader process, where an exception would lose its text."""

    def __init__(self, message: str) -> None:
        self.message = message


class _Keys:
    """The lists of keys that the reader was last given, as a batch sampler."""

    now: Sequence[list[Any]] = ()

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.now)

    def __len__(self) -> int:
        return len(self.now)


class _Items(Dataset[Any]):
    def __init__(self, fetch: Fetch, board: WorkerBoard) -> None:
        self._fetch, self._board = fetch, board

    def __getitem__(self, key: Any) -> Any:
        worker = get_worker_info()
        if worker is not None:
            self._board.begin(worker.id, key)
        try:
            return self._fetch(key)
        except StageError as error:
            return _Unusable(str(error))
        finally:
            if worker is not None:
                self._board.end(worker.id)


class _Collate:
    def __init__(self, collate: Collate) -> None:
        self._collate = collate

    def __call__(self, items: list[Any]) -> Any:
        unusable = next((item for item in items if isinstance(item, _Unusable)), None)
        return unusable or self._collate(items)


class _Begin:
    def __init__(self, board: WorkerBoard) -> None:
        self._board = board

    def __call__(self, number: int) -> None:
        ignore_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED_SIGNALS)
        torch.set_num_threads(1)
        self._board.enter(number)
