"""Work on many files in several processes, in order, a bounded number ahead."""

import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

_AHEAD = 2  # tasks waiting for each process


def ignore_signals() -> None:
    """For child processes: a scheduler signals every process of a job, and only the parent may decide what it means."""
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def in_processes(work: Callable[[T], R], tasks: Sequence[T], workers: int) -> Generator[R, None, None]:
    """`work(task)` of each task, in order.

    Closing the generator waits for what has begun and drops the rest.

    Args:
        work: must be importable in another process.
        tasks: what to work on.
        workers: processes; 0 works in this one.
    """
    if workers < 1:
        yield from map(work, tasks)
        return
    # Forking keeps the modules that are already loaded; the children run no threads of this process.
    with ProcessPoolExecutor(workers, mp_context=get_context("fork"), initializer=ignore_signals) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for task in tasks:
                pending.append(pool.submit(work, task))
                if len(pending) >= _AHEAD * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
