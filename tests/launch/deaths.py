"""A launcher that dies at a chosen moment: just before or after one of the things that it does to disk or queue."""

import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.running import processes

DURABLE = (
    *((os, name) for name in ("fsync", "replace", "link", "utime")),
    *((Path, name) for name in ("mkdir", "unlink", "touch", "rename")),
)
COMMANDS = ("partitions", "nodes", "queue", "submit", "release", "cancel", "start_now")


class Died(BaseException):
    """Stands for SIGKILL: nobody catches it, and who got it does nothing any more."""


class Death:
    """Counts the moments of one launcher and kills it at one of them.

    Args:
        at: number of the moment, from 1; 0: it lives, and `count` says how many there are.
    """

    def __init__(self, patch: pytest.MonkeyPatch, scheduler: Any, at: int = 0) -> None:
        self.count = 0
        self._at = at
        self._counting = threading.Lock()
        self._main = threading.current_thread()
        for target, name in DURABLE:
            patch.setattr(target, name, self._before(getattr(target, name)))
        for name in COMMANDS:
            patch.setattr(scheduler, name, self._around(name, getattr(scheduler, name)))

    def _moment(self) -> None:
        with self._counting:
            self.count += 1
            if self._at and self.count >= self._at:  # and so it is for all of its threads
                raise Died

    def _before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if function.__name__ != "utime" or threading.current_thread() is self._main:  # else it is the lock's beat
                self._moment()
            return function(*arguments, **options)

        return wrapped

    def _around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            self._moment()
            if name in ("release", "cancel") and len(arguments[0]) > 1:  # one command, and a call for each id
                for number, one in enumerate(arguments[0]):
                    if number:
                        self._moment()
                    answer = function([one])
            else:
                answer = function(*arguments)
            self._moment()
            return answer

        return wrapped


def lives(patch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Begin the life of another launcher: all earlier ones of this process then look dead."""
    numbers = itertools.count()
    identity, is_alive = processes.identity, processes.is_alive

    def next_life() -> None:
        life = next(numbers)
        for module in ("submit_lock", "sending"):
            patch.setattr(f"launch.slurm.{module}.identity", lambda: {**identity(), "life": life})
        patch.setattr(
            "launch.slurm.submit_lock.is_alive", lambda process: process["life"] == life and is_alive(process)
        )

    return next_life
