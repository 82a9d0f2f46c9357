"""A file server that shows new names late, for processes that have this folder on their PYTHONPATH.

Every name that a process makes below $LAGGY_ROOT is noted, with its node and the time. For $LAGGY_S seconds, other
nodes do not see it: looking it up finds nothing, listings leave it out, and so with all that lies below it. As on a
network file system, a name that was replaced has its new content, and who has made or replaced a name sees it, as does
who has tried to make it and was told that it is there. A process's node is SLURMD_NODENAME, or `login`.

Only what Python does is seen; what shells and Slurm's daemons write is visible at once.
"""

import builtins
import errno
import functools
import hashlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_ROOT = os.path.abspath(os.environ.get("LAGGY_ROOT", "/nowhere"))  # noqa: PTH100  (pathlib is what is changed here)
_NOTES = os.environ.get("LAGGY_NOTES", "")
_LATE_S = float(os.environ.get("LAGGY_S", "30"))
_NODE = os.environ.get("SLURMD_NODENAME", "login")

_stat, _lstat, _open, _scandir, _listdir = os.stat, os.lstat, os.open, os.scandir, os.listdir
_rename, _replace, _link, _mkdir, _symlink = os.rename, os.replace, os.link, os.mkdir, os.symlink
_builtin_open = builtins.open


def _below(path: Any) -> str:
    """A path as it is noted; nothing for one that is not below the root, or a number of an open file."""
    if isinstance(path, int):
        return ""
    whole = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
    return whole if whole.startswith(_ROOT + os.sep) else ""


def _note_path(whole: str) -> str:
    return os.path.join(_NOTES, hashlib.sha1(whole.encode(errors="surrogateescape")).hexdigest())  # noqa: PTH118


def _exists(whole: str) -> bool:
    try:
        _lstat(whole)
    except OSError:
        return False
    return True


def _made(whole: str, was_there: bool) -> None:
    """Note who made a name, or who else has touched it."""
    mode = "a" if was_there else "w"
    if was_there and not _is_hidden(whole):
        return
    with _builtin_open(_note_path(whole), mode) as stream:
        stream.write(f"{_NODE}\n" if was_there else f"{time.time()}\n{_NODE}\n")


def _is_hidden(whole: str) -> bool:
    try:
        with _builtin_open(_note_path(whole)) as stream:
            since, *nodes = stream.read().split()
    except (FileNotFoundError, ValueError):
        return False
    return _NODE not in nodes and time.time() - float(since) < _LATE_S


def _hidden_on_the_way(whole: str) -> bool:
    """Whether a name, or a folder that it lies in, is not seen here yet."""
    while len(whole) > len(_ROOT):
        if _is_hidden(whole):
            return True
        whole = os.path.dirname(whole)  # noqa: PTH120
    return False


def _refuse(path: Any) -> None:
    whole = _below(path)
    if whole and _hidden_on_the_way(whole):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


@contextmanager
def _making(path: Any, whole: str) -> Iterator[None]:
    """Around a call that makes a name, in a folder that must be in sight."""
    _refuse(os.path.dirname(os.fsdecode(path)) or ".")  # noqa: PTH120
    was_there = _exists(whole)
    try:
        yield
    except FileExistsError:
        _made(whole, was_there)
        raise
    _made(whole, was_there)


def _looking(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def late(path: Any, *rest: Any, **options: Any) -> Any:
        if options.get("dir_fd") is None:
            _refuse(path)
        return function(path, *rest, **options)

    return late


def _opening(path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
    whole = _below(path) if options.get("dir_fd") is None else ""
    if not whole:
        return _open(path, flags, mode, **options)
    if not flags & os.O_CREAT:
        _refuse(path)
        return _open(path, flags, mode, **options)
    with _making(path, whole):
        return _open(path, flags, mode, **options)


def _opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
    whole = _below(file)
    if not whole:
        return _builtin_open(file, mode, *rest, **options)
    if not set("wax") & set(mode):
        _refuse(file)
        return _builtin_open(file, mode, *rest, **options)
    with _making(file, whole):
        return _builtin_open(file, mode, *rest, **options)


def _naming(function: Callable[..., Any], target: int) -> Callable[..., Any]:
    """A call whose argument of this number is the name that it makes."""

    @functools.wraps(function)
    def late(*arguments: Any, **options: Any) -> Any:
        if target and function is not _symlink:
            _refuse(arguments[0])
        whole = _below(arguments[target])
        if not whole:
            return function(*arguments, **options)
        with _making(arguments[target], whole):
            return function(*arguments, **options)

    return late


class _Seen:
    """What os.scandir gives, without the names that are not seen here yet."""

    def __init__(self, entries: Any, folder: str) -> None:
        self._entries = entries
        self._folder = folder

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        while True:
            entry = next(self._entries)
            if not self._folder or not _is_hidden(os.path.join(self._folder, os.fsdecode(entry.name))):  # noqa: PTH118
                return entry

    def __enter__(self) -> "_Seen":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries.close()


def _scanned(path: Any = ".") -> _Seen:
    _refuse(path)
    whole = os.path.abspath(os.fsdecode(path)) if not isinstance(path, int) else ""  # noqa: PTH100
    return _Seen(_scandir(path), whole if f"{whole}/".startswith(f"{_ROOT}/") else "")


def _listed(path: Any = ".") -> list[Any]:
    if isinstance(path, int):
        return _listdir(path)
    with _scanned(path) as entries:
        return [entry.name for entry in entries]


if _NOTES and "LAGGY_ROOT" in os.environ:
    changed: dict[str, Any] = {
        "stat": _looking(_stat),
        "lstat": _looking(_lstat),
        "open": _opening,
        "scandir": _scanned,
        "listdir": _listed,
        "rename": _naming(_rename, 1),
        "replace": _naming(_replace, 1),
        "link": _naming(_link, 1),
        "symlink": _naming(_symlink, 1),
        "mkdir": _naming(_mkdir, 0),
    }
    for name, function in changed.items():
        setattr(os, name, function)
    builtins.open = io.open = _opened
    sys.dont_write_bytecode = True
