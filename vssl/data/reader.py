"""Runs a dataset over lists of keys, in this process or in loader processes, and keeps their order."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from vssl.data.processes import ignore_signals
from vssl.run import StageError

Fetch = Callable[[Any], Any]  # key -> item
Collate = Callable[[list[Any]], Any]  # items of one list of keys -> what the reader yields


class Reader:
    """Yields `collate([fetch(key) for key in keys])` for each list of keys.

    Loader processes live on from one call of `read` to the next.

    Args:
        fetch: called in a loader process, if there are any; must not depend on the process.
        collate: called where `fetch` was.
        workers: loader processes; 0 for none.
        prefetch: lists of keys that each process works ahead.
        pin: put tensors into page-locked memory, for a GPU.
    """

    def __init__(self, fetch: Fetch, collate: Collate, *, workers: int, prefetch: int, pin: bool) -> None:
        self._items, self._collate = _Items(fetch), _Collate(collate)
        self._workers, self._prefetch, self._pin = workers, prefetch, pin
        self._keys = _Keys()
        self._loader: DataLoader[Any] | None = None

    def read(self, keys: Sequence[list[Any]]) -> Iterator[Any]:
        """
        Raises:
            StageError: as raised by `fetch`.
        """
        if self._workers:
            self._keys.now = keys
            self._loader = self._loader or self._start()
            results: Iterator[Any] = iter(self._loader)
        else:
            results = (self._read_here(some) for some in keys)
        for result in results:
            if isinstance(result, _Unusable):
                raise StageError(result.message)
            yield result

    def close(self) -> None:
        """End the loader processes; a later `read` starts new ones."""
        self._loader = None

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
            worker_init_fn=_begin_worker,
            generator=torch.Generator(),  # else every epoch would draw from the global generator
            pin_memory=self._pin,
            multiprocessing_context="fork",
        )


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
    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._fetch(key)
        except StageError as error:
            return _Unusable(str(error))


class _Collate:
    def __init__(self, collate: Collate) -> None:
        self._collate = collate

    def __call__(self, items: list[Any]) -> Any:
        unusable = next((item for item in items if isinstance(item, _Unusable)), None)
        return unusable or self._collate(items)


def _begin_worker(_: int) -> None:
    ignore_signals()
    torch.set_num_threads(1)
