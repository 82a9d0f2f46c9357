"""Where the files lie that a published list names: lists are written for other folders, disks and file types.

A list names its videos relative to a folder that is seldom ours (`UCF-101/...`, `Kinetics400/train/...`,
`/datasets/hmdb51/...`), or from inside a folder that ours contains. One rule is found for a whole list, from a few of
its lines: how many leading folders to drop, and which folder to put before the rest. A list whose paths exist as they
are keeps them.
"""

import os
import posixpath
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from vssl.data.listing import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_text

_SUFFIXES = (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)
_SAMPLE = 32  # lines of a list that the rule is found from
_DEEPEST = 6  # leading folders that may be dropped

Place = Callable[[str], str]  # path as written, after `tidy` -> path below the dataset's folder


class Folders:
    """Names of files below a root, each folder read once.

    Args:
        root: the dataset's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, frozenset[str]] = {}
        self._stems: dict[str, dict[str, str]] = {}

    def find(self, path: str) -> str | None:
        """The file that a path means: itself, else the video of that name whatever its type, as after transcoding."""
        folder, name = posixpath.split(path)
        if name in self._files(folder):
            return path
        stem = self._by_stem(folder).get(_stem(name))
        return None if stem is None else posixpath.join(folder, stem)

    def _files(self, folder: str) -> frozenset[str]:
        if folder not in self._names:
            try:
                with os.scandir(self._root / folder) as found:
                    self._names[folder] = frozenset(one.name for one in found if is_text(one.name))
            except (FileNotFoundError, NotADirectoryError):
                self._names[folder] = frozenset()
        return self._names[folder]

    def _by_stem(self, folder: str) -> dict[str, str]:
        if folder not in self._stems:
            stems: dict[str, str] = {}
            videos = [name for name in self._files(folder) if name.lower().endswith(_SUFFIXES)]
            for name in sorted(videos, key=lambda name: (_SUFFIXES.index(posixpath.splitext(name)[1].lower()), name)):
                stems.setdefault(_stem(name), name)
            self._stems[folder] = stems
        return self._stems[folder]


def tidy(path: str, root: Path) -> str:
    """A written path without needless parts; relative where it lies below the root, else as absolute as it was."""
    normal = posixpath.normpath(path)
    inside = f"{root}/"
    return normal[len(inside) :] if normal.startswith(inside) else normal


def is_outside(path: str) -> bool:
    return path.startswith(("/", "../")) or path in ("..", ".")


def find_rule(paths: Sequence[str], prefixes: Iterable[str], folders: Folders) -> Place:
    """How the paths of one list become paths below the root.

    Args:
        paths: as written, after `tidy`.
        prefixes: folders below the root in which the list may be at home, the likeliest first.
        folders: the root's files.

    Returns:
        The rule; a path of which it can make nothing stays outside: `is_outside`.
    """
    step = max(1, len(paths) // _SAMPLE)
    sample = [path for path in paths[::step] if not path.startswith("../")]
    if any(not path.startswith("/") and folders.find(path) for path in sample):
        return lambda path: folders.find(path) or path
    prefixes = ["", *prefixes]
    best, most = ("", 0), 0
    for dropped in range(_DEEPEST + 1):
        for prefix in prefixes:
            found = sum(1 for path in sample if (new := _moved(path, prefix, dropped)) and folders.find(new))
            if found > most:
                best, most = (prefix, dropped), found

    def place(path: str) -> str:
        new = _moved(path, *best) if most and not path.startswith("../") else None
        return path if new is None else folders.find(new) or new

    return place


def _moved(path: str, prefix: str, dropped: int) -> str | None:
    parts = PurePosixPath(path.lstrip("/")).parts[dropped:]
    return posixpath.join(prefix, *parts) if parts else None


def _stem(name: str) -> str:
    stem, suffix = posixpath.splitext(name)
    return stem if suffix.lower() in _SUFFIXES else name
