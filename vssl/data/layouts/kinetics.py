"""Kinetics as published: annotation files of YouTube segments, and whatever of them is still to be had.

`label,youtube_id,time_start,time_end,split` in train.csv, val.csv (validate.csv) and test.csv; files
`<youtube id>_<start>_<end>.mp4`, in folders of splits, of classes, of both or of neither. Videos are matched by id and
start, so it does not matter how a downloader spelt a class in a folder's name. Nobody has all of them: those that are
missing are counted and named.
"""

import csv
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vssl.config import ConfigError
from vssl.data.dataset_config import DatasetConfig
from vssl.data.layouts.class_names import Classes, names_from, read_class_file
from vssl.data.layouts.folders import files_below, folders_in
from vssl.data.layouts.list_lines import text_lines
from vssl.data.listing import VIDEO_SUFFIXES, Entry, Excluded, Listing, is_text

_SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
_NAME = re.compile(r"(?P<id>.{11})(?:_(?P<start>\d+)_(?P<end>\d+))?")  # an id may hold underscores; it has 11 signs
_NEEDED = ("youtube_id", "time_start", "time_end")


@dataclass(frozen=True)
class Segment:
    """One line of an annotation file."""

    id: str
    start: int
    end: int
    label: str
    split: str
    where: str

    @property
    def name(self) -> str:
        return f"{self.id}_{self.start:06}_{self.end:06}"


def annotation_files(root: Path) -> tuple[Path, ...]:
    """The annotation files of the first folder that has a training one."""
    for folder in (root, *sorted(folders_in(root))):
        found = tuple(path for path in sorted(folder.glob("*.csv")) if _split_of(path) and _has_segments(path))
        if any(_split_of(path) == "train" for path in found):
            return found
    return ()


def from_annotations(config: DatasetConfig, root: Path) -> Listing:
    """
    Raises:
        ConfigError: no annotation files, one that is damaged, or one segment with two labels or splits.
    """
    files = tuple((root / name, split) for split, name in config.lists.items())
    files = files or tuple((path, _split_of(path)) for path in annotation_files(root))
    if not files:
        raise ConfigError(
            f"dataset {config.name}: no annotation files in {root} or a folder of it; expected train.csv and val.csv "
            "with the columns label,youtube_id,time_start,time_end,split, or name them: data.dataset.lists={train: ...}"
        )
    segments: dict[str, Segment] = {}
    notes: list[str] = []
    for path, split in files:
        if not path.is_file():
            raise ConfigError(f"dataset {config.name}: no annotation file {path}")
        read = list(_segments(path, split))
        if read and not any(segment.label for segment in read):
            notes.append(f"{path.name} names no classes: its {len(read)} videos are left out")
            continue
        for segment in read:
            other = segments.setdefault(segment.name, segment)
            if (other.label, other.split) != (segment.label, segment.split):
                raise ConfigError(
                    f"{segment.where}: {segment.name} is `{segment.label}` in {segment.split}, and at {other.where} "
                    f"`{other.label}` in {other.split}; keep one of the lines"
                )
    named = read_class_file(root / config.classes) if config.classes else names_from(s.label for s in segments.values())
    classes = Classes(named)
    entries, excluded = [], []
    at = _index(root)
    for segment in segments.values():
        label = classes.number(segment.label, segment.where)
        paths = at.get((segment.id, segment.start), at.get((segment.id, None), []))
        if paths:
            entries.append(Entry(_choose(paths, segment.split), label, segment.split, segment.where, segment.id))
        else:
            excluded.append(Excluded(segment.name, "missing", "missing", segment.where))
    return Listing(
        "kinetics", classes.names, tuple(entries), excluded=tuple(excluded), notes=tuple(notes), misses_files=True
    )


def _split_of(path: Path) -> str:
    """The split that an annotation file's name tells: kinetics_train.csv, validate.csv; "" where it tells none."""
    words = re.split(r"[^a-z]+", path.stem.lower())
    return next((split for word, split in _SPLITS.items() if word in words), "")


def _has_segments(path: Path) -> bool:
    with open(path, encoding="utf-8-sig", errors="replace") as stream:
        return set(_NEEDED) <= {name.strip() for name in stream.readline().split(",")}


def _segments(path: Path, split: str) -> Iterator[Segment]:
    rows = csv.DictReader(text_lines(path))
    if not set(_NEEDED) <= set(rows.fieldnames or ()):
        raise ConfigError(f"{path.name}:1: expected the columns {', '.join(_NEEDED)}, label and split")
    for row in rows:
        where = f"{path.name}:{rows.line_num}"
        try:
            start, end = int(float(row["time_start"])), int(float(row["time_end"]))
        except (TypeError, ValueError):
            raise ConfigError(f"{where}: time_start and time_end are no numbers of seconds") from None
        own = _SPLITS.get((row.get("split") or "").strip().lower(), split)
        yield Segment(row["youtube_id"].strip(), start, end, (row.get("label") or "").strip(), own, where)


def _index(root: Path) -> Mapping[tuple[str, int | None], list[str]]:
    """(id, start) -> files; a file named by its id alone is found under (id, None)."""
    found: dict[tuple[str, int | None], list[str]] = {}
    begin = len(str(root).rstrip("/")) + 1
    for path in sorted(files_below(root, _refuse)):
        stem, suffix = posixpath.splitext(posixpath.basename(path))
        match = _NAME.fullmatch(stem)
        if match and suffix.lower() in VIDEO_SUFFIXES and is_text(path):
            start = None if match["start"] is None else int(match["start"])
            found.setdefault((match["id"], start), []).append(path[begin:])
    return found


def _refuse(error: OSError) -> None:
    raise error


def _choose(paths: list[str], split: str) -> str:
    """Of several files of one segment the one in its split's folder, else the first."""
    spelt = [word for word, meant in _SPLITS.items() if meant == split]
    return next((path for path in paths if set(spelt) & set(path.split("/")[:-1])), paths[0])
