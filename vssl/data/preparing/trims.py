"""Cuts parts out of longer videos, for datasets whose videos are such parts: FineGym's events.

Each part is a file of its own, at one frame rate and size, as CARL prepares them; unlike there it begins at the frame
that the annotations name, not at the key frame before it, and keeps the shape of its picture. Parts that are there are
not cut again, unless the video that they came from has changed.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vssl.artifacts import sync
from vssl.data.decode import BrokenVideo, Frames, read_frames, write_video
from vssl.data.listing import Entry
from vssl.data.preparing.examine import examine_all
from vssl.data.preparing.isolation import Lost, isolated
from vssl.data.preparing.probes import Found, Probes
from vssl.progress import track

FPS, SHORT_SIDE = 25.0, 360
_ENCODER = {"preset": "veryfast", "crf": "20", "g": "25"}
_AT_ONCE = 64  # frames in memory
_MEMORY_GB = 8.0
_SECONDS, _SECONDS_EACH = 300.0, 60.0  # the latter for each second that is cut


@dataclass(frozen=True)
class _Cut:
    """One part to be made."""

    source: Path
    frames: int  # of the source
    fps: float
    seekable: bool
    start_s: float
    end_s: float
    target: Path


def cut(
    entries: tuple[Entry, ...], root: Path, target: Path, probes: Probes, say: Callable[[str], None]
) -> Mapping[str, Found]:
    """Make the files that entries are to be cut into, below `target`; path -> `reason` and `kind` of those that fail.

    Args:
        entries: videos of a dataset, some with a `trim`.
        root: the dataset's folder.
        target: folder of the parts.
        probes: findings about the files below `root`.
        say: takes lines for the person who watches.
    """
    trims = {entry.path: entry.trim for entry in entries if entry.trim is not None}
    sources = examine_all(sorted({trim.video for trim in trims.values()}), root, probes, {}, say)
    failed: dict[str, Found] = {}
    cuts: dict[Path, str] = {}
    tasks: list[_Cut] = []
    for path, trim in trims.items():
        of_file = sources[trim.video]
        if "reason" in of_file:
            failed[path] = of_file | {"reason": f"{trim.video}: {of_file['reason']}"}
        elif not ((target / path).is_file() and probes.find(_mark(path), of_file["size"], of_file["mtime_ns"])):
            place = target / path
            about = (of_file["frames"], of_file["fps"], of_file["seekable"], trim.start_s, trim.end_s)
            tasks.append(_Cut(root / trim.video, *about, place))
            cuts[place] = path
    making = isolated(
        _make,
        tasks,
        min(len(os.sched_getaffinity(0)), max(1, len(tasks))),
        seconds=lambda task: _SECONDS + _SECONDS_EACH * (task.end_s - task.start_s),
        memory_gb=_MEMORY_GB,
    )
    try:
        for task, answer in track(making, len(tasks), "cutting videos", say):
            path = cuts[task.target]
            if reason := answer.reason if isinstance(answer, Lost) else answer:
                failed[path] = {"reason": reason, "kind": "unreadable"}
            else:
                of_file = sources[trims[path].video]
                probes.keep(_mark(path), of_file["size"], of_file["mtime_ns"], {"cut": True})
    finally:
        making.close()
    return failed


def _mark(path: str) -> str:
    """How journals call the making of a part; no file of a dataset has that name."""
    return f"cut: {path}"


def _make(task: _Cut) -> str:
    """Write one part, whole or not at all; why it could not be, or ""."""
    first, last = task.start_s * task.fps, task.frames - 1
    count = round((task.end_s - task.start_s) * FPS)
    indices = np.floor(first + np.arange(count) * task.fps / FPS + 0.5).astype(int)
    indices = indices[indices <= last]
    if len(indices) == 0:
        return f"it begins at {task.start_s:g} s, and the video ends at {task.frames / task.fps:.1f} s"
    task.target.parent.mkdir(parents=True, exist_ok=True)
    aside = task.target.with_name(f".{uuid.uuid4().hex}.tmp{task.target.suffix}")
    try:
        write_video(aside, _frames(task, indices), codec="libx264", fps=FPS, options=_ENCODER)
        sync(aside)
        aside.replace(task.target)
    except BrokenVideo as error:
        return error.reason
    finally:
        aside.unlink(missing_ok=True)
    return ""


def _frames(task: _Cut, indices: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Iterator[Frames]:
    for begin in range(0, len(indices), _AT_ONCE):
        wanted = indices[begin : begin + _AT_ONCE].tolist()
        frames = read_frames(task.source, wanted, seekable=task.seekable, short_side=SHORT_SIDE)
        height, width = (size // 2 * 2 for size in frames.shape[1:3])  # what the encoder takes
        yield from frames[:, :height, :width]
