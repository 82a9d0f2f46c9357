"""What each file of a dataset is: decoded once from its first frame to its last, and digested."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vssl.artifacts import sha256_file
from vssl.data.decode import BrokenVideo, inspect
from vssl.data.listing import Kind, is_image, written
from vssl.data.preparing.isolation import Lost, isolated
from vssl.data.preparing.probes import Found, Probes
from vssl.progress import track

MIN_FRAMES = 4  # a shorter file shows no motion
FOUND = ("frames", "fps", "width", "height", "duration_s", "seekable", "size", "mtime_ns", "sha256")
_PLAYLISTS = (b"#EXTM3U", b"ffconcat")  # FFmpeg would follow them, and no digest would know
_MEMORY_GB = 4.0  # the frames that a decoder keeps of the largest videos are half of it
_SECONDS, _SECONDS_EACH_MB = 60.0, 20.0  # far slower than any disk and decoder


def examine_all(
    paths: Iterable[str],
    root: Path,
    probes: Probes,
    previous: Mapping[str, Mapping[str, Any]],
    say: Callable[[str], None],
) -> dict[str, Found]:
    """Path -> what the manifest records of the file, or its `reason` and `kind` of exclusion.

    A file is read only if nothing is known of it, at its present size and time, by journals or an earlier manifest.
    """
    results: dict[str, Found] = {}
    read_before = {path for path, _, _ in probes.known}
    fresh: list[str] = []
    for path in paths:
        known = _known(root / path, path, probes, previous) if path in read_before or path in previous else None
        if known is None:
            fresh.append(path)
        else:
            results[path] = known
    if not fresh:
        return results
    reading = isolated(
        examine,
        (root / path for path in fresh),
        min(len(os.sched_getaffinity(0)), len(fresh)),
        seconds=_seconds,
        memory_gb=_MEMORY_GB,
    )
    try:
        for path, found in track(_written_down(reading, root, probes), len(fresh), "reading files", say):
            results[path] = found
    finally:
        reading.close()
    return results


def examine(path: Path) -> Found:
    """What the manifest records of one file, or why it cannot be used. `passing` reasons may be gone another time."""
    try:
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):
            return _reason("no regular file", "unreadable", passing=True)
        digest = sha256_file(path)  # first: a disk that fails here is not the file's fault, a decoder that fails is
        found = _inspect(path)
        if _identity(path.stat()) != _identity(before):
            return _reason("it changed while it was read", "unreadable", passing=True)
        return found | _identity(before) | ({} if "reason" in found else {"sha256": digest})
    except FileNotFoundError:
        return _reason("missing", "missing", passing=True)
    except PermissionError:
        return _reason("not readable: permission denied", "unreadable", passing=True)
    except OSError as error:
        return _reason(f"not readable: {error.strerror or error}", "unreadable", passing=True)


def _inspect(path: Path) -> Found:
    """What a decoder makes of a file that can be read."""
    with open(path, "rb") as stream:
        if stream.read(16).startswith(_PLAYLISTS):
            return _reason("a list of other files", "unreadable")
    try:
        info = inspect(path)
    except BrokenVideo as error:
        return _reason(error.reason, "unreadable")
    except MemoryError:
        raise
    except Exception as error:  # a damaged file may break a binding anywhere: it is named like any other
        said = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        return _reason(f"it cannot be decoded ({written(str(said))})", "unreadable")
    if info.frames < (least := 1 if is_image(path.name) else MIN_FRAMES):
        return _reason(f"only {info.frames} frames; at least {least} make a video", "too short")
    return asdict(info)


def _written_down(
    reading: Iterable[tuple[Path, Found | Lost]], root: Path, probes: Probes
) -> Iterator[tuple[str, Found]]:
    begin = len(str(root).rstrip("/")) + 1
    for place, answer in reading:
        path = str(place)[begin:]
        found = _reason(answer.reason, "unreadable", passing=True) if isinstance(answer, Lost) else answer
        if not found.pop("passing", False):
            probes.keep(path, found["size"], found["mtime_ns"], found)
        yield path, found


def _known(place: Path, path: str, probes: Probes, previous: Mapping[str, Mapping[str, Any]]) -> Found | None:
    try:
        now = place.stat()
    except OSError:
        return None
    row = previous.get(path)
    if row is not None and (row["size"], row["mtime_ns"]) == (now.st_size, now.st_mtime_ns):
        return {name: row[name] for name in FOUND}
    return probes.find(path, now.st_size, now.st_mtime_ns)


def _identity(status: os.stat_result) -> dict[str, int]:
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _reason(reason: str, kind: Kind, *, passing: bool = False) -> Found:
    return {"reason": reason, "kind": kind} | ({"passing": True} if passing else {})


def _seconds(path: Path) -> float:
    try:
        return _SECONDS + _SECONDS_EACH_MB * path.stat().st_size / 2**20
    except OSError:
        return _SECONDS
