"""Datasets that are trees of class folders: <class>/*, <split>/<class>/*, and the same of images."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from vssl.artifacts import sha256_text
from vssl.data.listing import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Entry, Excluded, Listing, is_text, written

_FEW = 12  # folders of a root into which a search goes on


def folders_in(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]


def homes(root: Path) -> list[str]:
    """Folders below a root that may hold the videos of a list, the nearest first, as relative paths."""
    first = sorted(folders_in(root))
    second = [below for folder in first for below in sorted(folders_in(folder))] if len(first) <= _FEW else []
    return [folder.relative_to(root).as_posix() for folder in (*first, *second)]


def split_folders(root: Path) -> Listing:
    """<split>/<class>/**/video."""
    return _read(root, "split-folders", [(folder, folder.name) for folder in sorted(folders_in(root))])


def class_folders(root: Path) -> Listing:
    """<class>/**/video, not yet divided into splits."""
    return _read(root, "class-folders", [(root, "")])


def image_folders(root: Path) -> Listing:
    """train/<class>/image and val/<class>/image, classes in the natural order of their names: n9 before n10.

    Folders deeper down are searched too: ImageNet's archive has them under ILSVRC/Data/CLS-LOC.
    """
    for top in (root, root / "ILSVRC" / "Data" / "CLS-LOC", *sorted(folders_in(root))):
        splits = [(top / name, name) for name in ("train", "val", "test") if (top / name).is_dir()]
        if splits:
            return _read(root, "image-folders", splits)
    return Listing("image-folders", (), ())


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sorting key that compares the numbers in names as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def divide(entries: tuple[Entry, ...], test_share: float) -> tuple[Entry, ...]:
    """Give each class's videos to train and test by the digest of their paths, so the split never depends on chance.

    Where recordings are known, a recording goes to one split as a whole, whatever its classes, by the digest of its
    name; the share is then met only roughly.
    """
    if any(entry.group for entry in entries):
        return tuple(replace(e, split="test" if _draw(e.group or e.path) < test_share else "train") for e in entries)
    divided = []
    for label in sorted({entry.label for entry in entries}):
        members = sorted((e for e in entries if e.label == label), key=lambda e: sha256_text(e.path))
        tests = round(test_share * len(members))
        if test_share > 0 and len(members) > 1:
            tests = min(max(tests, 1), len(members) - 1)
        divided += [replace(e, split="test" if i < tests else "train") for i, e in enumerate(members)]
    return tuple(sorted(divided, key=lambda e: e.path))


def _draw(name: str) -> float:
    """A number from 0 to 1 that belongs to a name."""
    return int(sha256_text(name)[:12], 16) / 16**12


def files_below(folder: Path, closed: Callable[[OSError], None]) -> Iterator[str]:
    """Every file below a folder but hidden ones, as paths in text; links to folders are not followed.

    Args:
        folder: where to look.
        closed: is told of folders that cannot be read.
    """
    for place, below, names in os.walk(folder, onerror=closed):
        below[:] = [name for name in below if not name.startswith(".")]
        yield from (f"{place}/{name}" for name in names if not name.startswith("."))


def _read(root: Path, layout: str, splits: list[tuple[Path, str]]) -> Listing:
    suffixes = IMAGE_SUFFIXES if layout == "image-folders" else VIDEO_SUFFIXES
    videos: list[tuple[str, str, str]] = []  # path, class, split
    ignored: list[str] = []
    excluded: list[Excluded] = []
    start = len(str(root).rstrip("/")) + 1

    def closed(error: OSError) -> None:
        excluded.append(Excluded(written(str(error.filename)), f"folder: {error.strerror}", "unreadable"))

    for top, split in splits:
        for folder in sorted(folders_in(top)):
            for path in sorted(files_below(folder, closed)):
                relative = path[start:]
                if not relative.lower().endswith(suffixes):
                    ignored.append(written(relative))
                elif not is_text(relative):
                    excluded.append(Excluded(written(relative), "its name is no UTF-8 text; rename it", "unreadable"))
                else:
                    videos.append((relative, folder.name, split))
    order = natural_order if layout == "image-folders" else None
    classes = tuple(sorted({name for _, name, _ in videos}, key=order))
    number = {name: index for index, name in enumerate(classes)}
    entries = tuple(Entry(path, number[name], split) for path, name, split in videos)
    return Listing(layout, classes, entries, tuple(ignored), tuple(excluded))
