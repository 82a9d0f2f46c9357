"""Datasets that are lists of videos: text, JSON and pickles, as published systems wrote them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vssl.config import ConfigError
from vssl.data.dataset_config import DatasetConfig
from vssl.data.layouts.class_names import Classes, find_classes, names_from, read_class_file
from vssl.data.layouts.folders import homes
from vssl.data.layouts.list_lines import read_lines
from vssl.data.layouts.pickled_records import read_records
from vssl.data.layouts.places import Folders, find_rule, is_outside, tidy
from vssl.data.listing import EVALUATION_SPLITS, Entry, FrameLabels, Listing

_HOMES = ("ucfTrainTestlist", "annotations", "lists", "splits")  # folders that hold lists, below the dataset's
_SUFFIXES = (".txt", ".csv", ".json", ".pkl")
_UCF = re.compile(r"v_\w+_g\d+(?=_c\d+\.\w+$)")  # UCF101: the 25 recordings of a class were cut into clips


@dataclass(frozen=True)
class Row:
    """One video of a list, of whatever type."""

    path: str
    label: str  # "" where the list leaves it to the folder
    split: str
    where: str
    group: str = ""
    number: int | None = None  # of the class, where the list gives it beside the name
    frame_labels: FrameLabels | None = None


def find_text_lists(root: Path) -> dict[str, str]:
    """Split -> list file, by the usual names; of numbered splits the first."""
    found = {}
    for split in ("train", *EVALUATION_SPLITS):
        files = sorted(path.name for path in root.glob(f"{split}*.txt"))
        usual = [name for name in files if re.fullmatch(rf"{split}(list)?(01|1)?\.txt", name)]
        if usual:
            found[split] = usual[0]
    return found if "train" in found and len(found) > 1 else {}


def find_lists(root: Path, fold: int) -> dict[str, str]:
    """As `find_text_lists`, for any fold and type of list, and in the folders that lists are published in."""
    first = find_text_lists(root) if fold == 1 else {}
    number = "(0?1)?" if fold == 1 else f"0?{fold}"
    for home in ("", *_HOMES) if not first else ():
        found: dict[str, str] = {}
        names = sorted(path.name for path in (root / home).glob("*") if path.suffix.lower() in _SUFFIXES)
        for split in ("train", *EVALUATION_SPLITS):
            usual = [name for name in names if re.fullmatch(rf"{split}(_?(list|split|video))?_?{number}\.\w+", name)]
            if usual:
                found[split] = f"{home}/{usual[0]}".lstrip("/")
        if "train" in found and len(found) > 1:
            first = found
            break
    if {"test", "val"} <= first.keys() and (root / first["test"]).read_bytes() == (root / first["val"]).read_bytes():
        del first["val"]  # published twice under two names
    return first


def from_lists(config: DatasetConfig, root: Path) -> Listing:
    """
    Raises:
        ConfigError: a list that is missing or cannot be read, a video listed twice, or an unknown class.
    """
    lists = config.lists or find_lists(root, config.fold)
    if not lists:
        fold = f" for fold {config.fold}" if config.fold > 1 else ""
        raise ConfigError(
            f"dataset {config.name}: layout is lists, but {root} holds no train.txt and test.txt{fold}; "
            "name them: data.dataset.lists={train: <file>, test: <file>}"
        )
    lists = {split: _at_home(config, root, name) for split, name in lists.items()}
    folders = Folders(root)
    rows = [
        row for split, name in lists.items() for row in _placed(list(_read(root, name, split)), name, root, folders)
    ]
    if config.classes:
        names: Mapping[str, str] | None = read_class_file(root / config.classes)
    else:
        homes = [root, *((root / name).parent for name in lists.values())]
        names = find_classes(homes, unlabelled=any(not row.label for row in rows))
    if names is None:  # a class that is only tested is a slip of the pen, unless a file of classes names it
        named = names_from(row.label for row in rows if row.split == "train")
        names = _numbered(rows) or named or names_from(row.label for row in rows)
    classes = Classes(names)
    entries: dict[str, Entry] = {}
    for row in rows:
        label = row.label or classes.of_folder(row.path)
        if not label:
            raise ConfigError(f"{row.where}: {row.path} has no label; expected a class number or name after the path")
        if row.path in entries:
            raise ConfigError(
                f"{row.where}: {row.path} was already listed at {entries[row.path].where}; list each video once"
            )
        number = classes.number(label, row.where)
        entries[row.path] = Entry(row.path, number, row.split, row.where, row.group, row.frame_labels)
    return Listing("lists", classes.names, _with_recordings(tuple(entries.values())))


def _at_home(config: DatasetConfig, root: Path, name: str) -> str:
    """A list file by its path below the root, also where only its name is given and it lies in its own folder."""
    for path in (name, *(f"{home}/{name}" for home in _HOMES)):
        if (root / path).is_file():
            return path
    raise ConfigError(f"dataset {config.name}: no list file {root / name}; data.dataset.lists names files below {root}")


def _numbered(rows: list[Row]) -> dict[str, str]:
    """Classes in the order of the numbers that lists give them beside their names; {} where they give none."""
    names = {row.number: row.label for row in rows if row.number is not None and row.number >= 0}
    if not names:
        return {}
    in_order = {number: names.get(int(number), number) for number in names_from(map(str, names))}
    return in_order | {name: name for name in names.values()}


def _read(root: Path, name: str, split: str) -> Iterator[tuple[Row, bool]]:
    """Rows of one list, paths as written, and whether a row may be a comment."""
    suffix = Path(name).suffix.lower()
    if suffix == ".json":
        yield from ((row, False) for row in _from_json(root / name, name, split))
    elif suffix in (".pkl", ".pickle"):
        for number, record in enumerate(read_records(root / name), start=1):
            row = Row(record.path, record.label, split, f"{name}:{number}", "", record.number, record.frame_labels)
            yield row, False
    else:
        for line in read_lines(root / name, name):
            yield Row(line.path, line.label, split, line.where, line.group), line.comment


def _from_json(path: Path, name: str, split: str) -> Iterator[Row]:
    """A list of objects with `filename` (or `path`) and `label`, a number or a list of one."""
    try:
        records = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON text ({error})") from None
    for number, record in enumerate(records if isinstance(records, list) else [None], start=1):
        written = record.get("filename", record.get("path")) if isinstance(record, dict) else None
        label: Any = record.get("label", "") if isinstance(record, dict) else ""
        if isinstance(label, list):
            label = label[0] if len(label) == 1 else None
        if not isinstance(written, str) or not isinstance(label, str | int):
            raise ConfigError(f'{name}:{number}: expected an object as in {{"filename": "a/b.mp4", "label": [3]}}')
        yield Row(written, str(label), split, f"{name}:{number}")


def _placed(rows: list[tuple[Row, bool]], name: str, root: Path, folders: Folders) -> Iterator[Row]:
    """The rows of one list with paths below the root; comments are gone."""
    tidied = [tidy(row.path, root) for row, _ in rows]
    home = Path(name).parent.as_posix()
    prefixes = [*([home] if home != "." else []), *homes(root)]
    place = find_rule(tidied, prefixes, folders)
    for written, (row, comment) in zip(tidied, rows):
        path = place(written)
        if comment and (is_outside(path) or folders.find(path) is None):
            continue
        if is_outside(path):
            raise ConfigError(
                f"{row.where}: {row.path} lies outside {root}; paths are relative to the dataset's folder, and an "
                "absolute one of another disk has to end in one that is"
            )
        yield replace(row, path=path)


def _with_recordings(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """With the recordings that UCF101's file names tell, if all names are of its kind."""
    found = [_UCF.search(entry.path) for entry in entries]
    if any(entry.group for entry in entries) or not all(found):
        return entries
    return tuple(replace(entry, group=match[0]) for entry, match in zip(entries, found) if match)
