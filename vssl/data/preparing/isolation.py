"""Work on files of strangers in processes that may crash, hang or eat memory: the file is lost, nothing else is.

Decoders are large programs in C, and a damaged file finds their bugs. So each file is read in a process that another
one replaces when it dies; the kernel ends it when its time is over, even where nobody is left to watch; and it cannot
have more memory than it is given.
"""

import faulthandler
import math
import os
import resource
import signal
import traceback
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar, cast

from vssl.data.processes import ignore_signals

T = TypeVar("T")
R = TypeVar("R")

_TASKS_EACH = 2000  # then a process makes room for a new one, so that a decoder's leaks never add up
_END_WAIT_S = 5.0
_LOOK_EVERY_S = 1.0
_FORK = get_context("fork")  # keeps the modules that are loaded; a process runs no thread of its parent
_NO_TASK: Any = object()


@dataclass(frozen=True)
class Lost:
    """What became of a task whose process ended before it answered."""

    reason: str


@dataclass(frozen=True)
class _Raised:
    """An exception in the work: a bug of ours, not a damaged file."""

    error: Exception
    where: str


class _Worker(Generic[T, R]):
    """One process and the pipe to it."""

    def __init__(self, work: Callable[[T], R], memory_gb: float, others: Iterable[Connection]) -> None:
        self.pipe, theirs = _FORK.Pipe()
        ours = (self.pipe, *others)
        self._process = _FORK.Process(target=_serve, args=(work, theirs, ours, memory_gb), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is closed when the process is gone
        self._given = 0
        self._seconds = 0

    def give(self, task: T, seconds: float) -> None:
        self.task, self._seconds = task, max(1, math.ceil(seconds))
        self._given += 1
        self.pipe.send((task, self._seconds))

    @property
    def is_worn(self) -> bool:
        return self._given >= _TASKS_EACH

    def answer(self) -> R | Lost | _Raised:
        try:
            return cast("R | Lost | _Raised", self.pipe.recv())
        except (EOFError, OSError):
            self._process.join()
            return Lost(_cause(self._process.exitcode or 0, self._seconds))

    def end(self) -> None:
        """End the process, whatever it does: what it answered is here, and it keeps nothing."""
        self._process.kill()
        self._process.join(_END_WAIT_S)  # one that waits for a dead file server cannot even be killed
        self.pipe.close()


def isolated(
    work: Callable[[T], R],
    tasks: Iterable[T],
    workers: int,
    *,
    seconds: Callable[[T], float],
    memory_gb: float,
    while_waiting: Callable[[], object] = lambda: None,
) -> Generator[tuple[T, R | Lost], None, None]:
    """(task, what `work` made of it or how it was lost), as they come. Closing the generator ends all processes.

    Args:
        work: called in another process; an exception in it is raised here, since it is a bug.
        tasks: what to work on; drawn only as processes get free.
        workers: processes, at least one.
        seconds: how long a task may take.
        memory_gb: how much memory a task may ask for beyond what its process begins with.
        while_waiting: called once a second while no answer comes; what it raises ends all processes.
    """
    queue = iter(tasks)
    busy: dict[Connection, _Worker[T, R]] = {}
    idle: list[_Worker[T, R]] = []
    try:
        while True:
            while len(busy) < max(1, workers) and (task := next(queue, _NO_TASK)) is not _NO_TASK:
                worker = idle.pop() if idle else _Worker(work, memory_gb, busy)
                busy[worker.pipe] = worker
                worker.give(task, seconds(task))
            if not busy:
                return
            while not (answered := wait(list(busy), _LOOK_EVERY_S)):
                while_waiting()
            for pipe in answered:
                worker = busy.pop(cast(Connection, pipe))
                answer = worker.answer()
                if isinstance(answer, Lost) or worker.is_worn:
                    worker.end()
                else:
                    idle.append(worker)
                if isinstance(answer, _Raised):
                    raise RuntimeError(f"{worker.task}:\n{answer.where}") from answer.error
                yield worker.task, answer
    finally:
        for worker in (*busy.values(), *idle):
            worker.end()


def _serve(work: Callable[[T], R], pipe: Connection, ours: Iterable[Connection], memory_gb: float) -> None:
    """What a process does: answers one task after the other until its pipe is closed, by whatever ends its parent."""
    for end in ours:  # a copy of the parent's ends would keep them open
        end.close()
    ignore_signals()
    faulthandler.disable()  # a crash here is a finding about a file, told by the parent
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process from outside, whatever a decoder is busy with
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(memory_gb)
    while True:
        try:
            task, seconds = pipe.recv()
        except EOFError:
            return
        signal.alarm(seconds)
        answer: R | Lost | _Raised
        try:
            answer = work(task)
        except MemoryError:
            answer = Lost(f"it needs more than {memory_gb:g} GB of memory")
        except Exception as error:
            answer = _Raised(error, traceback.format_exc())
        signal.alarm(0)
        pipe.send(answer)


def _limit_memory(memory_gb: float) -> None:
    with open("/proc/self/statm") as stream:
        now = int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = now + int(memory_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _cause(code: int, seconds: int) -> str:
    if code == -signal.SIGALRM:
        return f"it takes longer than {seconds} s to read"
    if code == -signal.SIGKILL:
        return "its reader was killed, perhaps for want of memory"
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"it crashes the decoder ({how})"
