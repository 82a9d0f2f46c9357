"""Processes that take turns: a cluster inside one process, on a clock that jumps.

Each simulated process, and each thread that one starts, is a thread here, and one of them runs at a time. Before every
durable operation, while it sleeps and when it asks the scheduler, it hands over, and a seed decides who goes on. The
clock moves only when everybody sleeps, and files take their times from it.
"""

import os
import random
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from launch.running import beside, processes
from launch.slurm import side_by_side, submit_lock

BEGAN_S = 1_800_000_000.0
_TICK_S = 1e-4  # between two turns, so that no two records have one time
_SWITCHES = 0.4  # share of the operations before which somebody else may go on: each costs two switches of threads
_WITH_THREADS: tuple[ModuleType, ...] = (beside, side_by_side, submit_lock)


class Killed(BaseException):
    """Nobody catches it, and whoever got it does nothing durable any more: SIGKILL, or the end of the process."""


class Process:
    """A thread that plays a process of some host, or a thread of one."""

    def __init__(
        self, world: "World", name: str, host: str, work: Callable[[], Any], variables: Mapping[str, str], pid: int
    ) -> None:
        self.world, self.name, self.host, self.work, self.pid = world, name, host, work, pid
        self.variables = dict(variables)
        self.main: Process = self  # of a thread: whose thread it is
        self.wakes_s = world.now_s
        self.stalls_until_s = world.now_s  # whatever it waits for, and its threads with it
        self.awaits: Callable[[], bool] = lambda: False
        self.is_over = False
        self.code: int | None = None  # of its end; set from outside: it is to end
        self.error: BaseException | None = None
        self.handlers: dict[int, Any] = {}
        self.signals: list[int] = []
        self.turns_left: int | None = None  # after which it is killed
        self.turn = _closed()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_doomed(self) -> bool:
        return self.main.code is not None or self.main.is_over

    @property
    def is_awake(self) -> bool:
        stalls = self.world.now_s < self.main.stalls_until_s
        return self.is_doomed or (not stalls and (bool(self.signals) or self.is_rested))

    @property
    def is_free(self) -> bool:
        """Whether nothing keeps it from going on."""
        return not self.is_doomed and not self.signals and self.turns_left != 0 and self.is_awake

    @property
    def is_rested(self) -> bool:
        return self.wakes_s <= self.world.now_s or self.awaits()

    def end(self, code: int) -> None:
        """It does nothing any more."""
        if not self.main.is_over and self.main.code is None:
            self.main.code = code

    def kill(self) -> None:
        self.end(128 + signal.SIGKILL)

    def _run(self) -> None:
        self.world.here.process = self
        self.turn.acquire()
        try:
            if not self.is_doomed:
                result = self.work()
                if self.code is None:
                    self.code = result
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        self.is_over = True
        self.world.back.release()

    def take_signals(self) -> None:
        """What a signal does, as its handler says; without one, the end."""
        while self.signals:
            number = self.signals.pop(0)
            handler = self.handlers.get(number, signal.SIG_DFL)
            if callable(handler):
                handler(number, None)
            elif handler == signal.SIG_DFL:
                self.end(128 + number)


def _closed() -> threading.Lock:
    """A lock that one thread opens for another."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class World:
    """All processes, and the time."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now_s = BEGAN_S
        self.living: list[Process] = []
        self.here = threading.local()
        self.back = _closed()
        self.on_write: Callable[[Process, str, Path], None] = lambda process, operation, path: None
        self._pids = 100

    @property
    def current(self) -> Process | None:
        """The process in whose thread this is asked."""
        return getattr(self.here, "process", None)

    def spawn(
        self, name: str, host: str, work: Callable[[], Any], variables: Mapping[str, str] | None = None
    ) -> Process:
        self._pids += 1
        process = Process(self, name, host, work, variables or {}, self._pids)
        self.living.append(process)
        process.thread.start()
        return process

    def turn(self, until_s: float) -> None:
        """Let somebody go on to its next operation; where all sleep, the clock moves on, at most to a moment."""
        awake = [one for one in self.living if one.is_awake]
        if not awake:
            moments = (max(one.wakes_s, one.main.stalls_until_s) for one in self.living)
            self.now_s = max(self.now_s, min([until_s, *moments]))
            return
        self.now_s += _TICK_S
        self._resume(self.rng.choice(awake))

    def _resume(self, process: Process) -> None:
        if process.turns_left is not None:
            process.turns_left -= 1
            if process.turns_left < 0:
                process.kill()
        process.turn.release()
        self.back.acquire()
        if process.is_over:
            self.living.remove(process)
        if process.error is not None:
            raise process.error

    def hand_over(self) -> None:
        """From a process's thread: let others go on; returns when its own turn has come."""
        process = self.current
        if process is None or (process.is_free and self.rng.random() > _SWITCHES):
            return
        if not process.is_doomed:
            self.back.release()
            process.turn.acquire()
            process.take_signals()
        if process.is_doomed:
            raise Killed

    def sleep(self, seconds: float) -> None:
        process = self.current
        if process is None:
            return
        process.wakes_s = self.now_s + seconds
        self.hand_over()
        while not process.is_rested:  # a signal has come in between
            self.hand_over()

    def wait(self, until: Callable[[], bool], seconds: float = float("inf")) -> None:
        """Sleep until something is so, or for some time."""
        process = self.current
        assert process is not None
        process.awaits = until
        self.sleep(seconds)
        process.awaits, process.wakes_s = lambda: False, self.now_s

    def end(self) -> None:
        """Kill whoever is left."""
        for process in self.living:
            process.kill()
        while self.living:
            self._resume(self.living[0])

    @contextmanager
    def ruling(self) -> Iterator[None]:
        """Put clock, files, signals, threads and process ids of this interpreter under the world's rule."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "utime", self._stamp(os.utime))
            patch.setattr(os, "fsync", lambda descriptor: None)
            for owner, name, place in (
                *((os, name, 1) for name in ("replace", "link", "rename", "symlink")),
                *((os, name, 0) for name in ("ftruncate", "write")),
                *((Path, name, 0) for name in ("mkdir", "unlink", "touch", "rmdir", "write_text")),
            ):
                patch.setattr(owner, name, self._durable(getattr(owner, name), name, place))
            patch.setattr(time, "time", lambda: self.now_s)
            patch.setattr(time, "time_ns", lambda: int(self.now_s * 1e9))
            patch.setattr(time, "monotonic", lambda: self.now_s)
            patch.setattr(time, "sleep", self.sleep)
            patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=self.rng.getrandbits(128), version=4))
            patch.setattr(os, "environ", Environment(self, os.environ))
            patch.setattr(os, "getpid", lambda: self.current.main.pid if self.current else 1)
            patch.setattr(os, "_exit", self._exit)
            patch.setattr(socket, "gethostname", self._host)
            patch.setattr(processes, "_world", lambda: {"boot_id": self._host(), "pid_namespace": ""})
            patch.setattr(processes, "_started", self._started)
            patch.setattr(signal, "signal", self._set_handler)
            patch.setattr(signal, "getsignal", lambda number: self._handlers().get(number, signal.SIG_DFL))
            for module in _WITH_THREADS:
                patch.setattr(module, "threading", SimpleNamespace(Thread=self._thread, Event=lambda: Event(self)))
            try:
                yield
            finally:
                self.end()

    def _host(self) -> str:
        return self.current.host if self.current else "login"

    def _started(self, pid: int) -> int | None:
        """A process id is never used twice, so it stands for the time of the start, too."""
        alive = any(one.pid == pid and one.host == self._host() and not one.is_doomed for one in self.living)
        return pid if alive else None

    def _exit(self, code: int) -> None:
        assert self.current is not None
        self.current.end(code)
        raise Killed

    def _handlers(self) -> dict[int, Any]:
        return self.current.main.handlers if self.current else {}

    def _set_handler(self, number: int, handler: Any) -> Any:
        before = self._handlers().get(number, signal.SIG_DFL)
        self._handlers()[number] = handler
        return before

    def _thread(self, target: Callable[..., Any], args: tuple[Any, ...] = (), daemon: bool = True) -> Any:
        parent = self.current
        assert parent is not None
        started: list[Process] = []

        def start() -> None:
            thread = self.spawn(f"{parent.name}, thread", parent.host, lambda: target(*args), parent.variables)
            thread.main, thread.pid = parent.main, parent.main.pid
            started.append(thread)

        def is_over() -> bool:
            return started[0].is_over

        return SimpleNamespace(start=start, join=lambda: self.wait(is_over), is_alive=lambda: not is_over())

    def _stamp(self, function: Callable[..., None]) -> Callable[..., None]:
        """os.utime, whose "now" is the world's."""

        def stamp(path: Any, times: Any = None, **options: Any) -> None:
            if times is None and "ns" not in options:
                times = (self.now_s, self.now_s)
            function(path, times, **options)

        return stamp

    def _durable(self, function: Callable[..., Any], name: str, place: int) -> Callable[..., Any]:
        """An operation that hands over before it happens, and gives what it made the world's time."""

        def operation(*arguments: Any, **options: Any) -> Any:
            process = self.current
            if process is None:
                return function(*arguments, **options)
            self.hand_over()
            result = function(*arguments, **options)
            target = arguments[place]
            path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
            if name in ("replace", "link", "touch", "write_text"):
                os.utime(path, (self.now_s, self.now_s))
            self.on_write(process, name, path)
            return result

        return operation


class Event:
    """threading.Event, on the world's clock."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float) -> bool:
        self.world.wait(self.is_set, timeout)
        return self._set


class Environment(MutableMapping[str, str]):
    """The variables of whoever asks: a process's own, and outside of the world this interpreter's."""

    def __init__(self, world: World, outside: MutableMapping[str, str]) -> None:
        self.world, self.outside = world, outside

    def _mine(self) -> MutableMapping[str, str]:
        return self.world.current.main.variables if self.world.current else self.outside

    def __getitem__(self, name: str) -> str:
        return self._mine()[name]

    def __setitem__(self, name: str, value: str) -> None:
        self._mine()[name] = value

    def __delitem__(self, name: str) -> None:
        del self._mine()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._mine())

    def __len__(self) -> int:
        return len(self._mine())
