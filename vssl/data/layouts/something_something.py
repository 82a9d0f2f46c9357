"""Something-Something V2 as published: JSON annotations by id, and <id>.webm.

`something-something-v2-{labels,train,validation,test}.json`, or the same under short names in a folder `labels`. A
record's `template` with its brackets removed is a class of the labels file, which also gives its number.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vssl.config import ConfigError
from vssl.data.dataset_config import DatasetConfig
from vssl.data.layouts.class_names import Classes
from vssl.data.layouts.folders import folders_in, homes
from vssl.data.layouts.list_lines import text_lines
from vssl.data.layouts.places import Folders, find_rule
from vssl.data.listing import Entry, Listing

_LONG = "something-something-v2-"
_SPLITS = {"train": "train", "validation": "val", "test": "test"}


def annotation_folder(root: Path) -> tuple[Path, str] | None:
    """(folder, beginning of its files' names) of the annotations, if they are here."""
    for folder in (root, *sorted(folders_in(root))):
        for beginning in (_LONG, ""):
            if all((folder / f"{beginning}{name}.json").is_file() for name in ("labels", "train")):
                return folder, beginning
    return None


def from_annotations(config: DatasetConfig, root: Path) -> Listing:
    """
    Raises:
        ConfigError: no annotations, or one that is damaged or of an unknown class.
    """
    found = annotation_folder(root)
    if found is None:
        raise ConfigError(
            f"dataset {config.name}: no {_LONG}labels.json and {_LONG}train.json in {root} or a folder of it"
        )
    folder, beginning = found
    labels = _read(folder / f"{beginning}labels.json", dict)
    try:
        numbers = sorted((int(number), name) for name, number in labels.items())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{beginning}labels.json: {error}; expected class names with their numbers") from None
    classes = Classes({name: name for _, name in numbers})
    entries, notes = [], []
    for name, split in _SPLITS.items():
        path = folder / f"{beginning}{name}.json"
        records = _read(path, list) if path.is_file() else []
        templates = _answers(folder, beginning) if name == "test" else {}
        if records and name == "test" and not templates:
            notes.append(f"{path.name} names no classes and there is no {beginning}test-answers.csv: test is left out")
            continue
        for number, record in enumerate(records, start=1):
            where = f"{path.name}:{number}"
            if not isinstance(record, dict) or "id" not in record:
                raise ConfigError(f"{where}: expected an object with `id` and `template`")
            template = str(record.get("template", templates.get(str(record["id"]), "")))
            label = classes.number(template.replace("[", "").replace("]", ""), where)
            entries.append(Entry(f"{record['id']}.webm", label, split, where))
    files = Folders(root)
    place = find_rule([entry.path for entry in entries], homes(root), files)
    placed = tuple(replace(entry, path=place(entry.path)) for entry in entries)
    return Listing("something-something-v2", classes.names, placed, notes=tuple(notes))


def _read(path: Path, expected: type) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON text ({error})") from None
    if not isinstance(value, expected):
        raise ConfigError(f"{path} holds a {type(value).__name__}; expected a {expected.__name__} of annotations")
    return value


def _answers(folder: Path, beginning: str) -> Mapping[str, str]:
    """Test id -> template, where the answers were published too: `id;template` lines."""
    path = folder / f"{beginning}test-answers.csv"
    lines = [line.partition(";") for line in text_lines(path) if line.strip()] if path.is_file() else []
    return {video.strip(): template.strip() for video, _, template in lines}
