"""FineGym as published: events cut from YouTube videos, and elements within them that label their frames.

`finegym_annotation_info_v*.json` gives the times of events in videos and of elements in events (seconds);
`gym<99|288>_{train_element_v*,val_element}.txt` have lines `<event id>_A_<start>_<end> <class>`. Videos are the events:
`<event id>.mp4`, as CARL cuts them; where there are none, they are to be cut from the whole videos, `<youtube id>.mp4`.
An event is in the split whose list names one of its elements.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vssl.config import ConfigError
from vssl.data.dataset_config import DatasetConfig
from vssl.data.layouts.folders import homes
from vssl.data.layouts.frame_labels import element_labels
from vssl.data.layouts.list_lines import text_lines
from vssl.data.layouts.places import Folders, find_rule
from vssl.data.listing import Entry, Listing, Trim

_ELEMENT = re.compile(r"(?P<video>.{11})_(?P<event>E_\d+_\d+)_(?P<element>A_\d+_\d+)\s+(?P<label>\d+)")
_CATEGORY = re.compile(r"Clabel:\s*(?P<label>\d+);.*?;\s*Glabel:\s*\d+;\s*(?P<name>.*\S)\s*")

Segments = NDArray[np.float64]  # (K, 3) start and end in the event (seconds), class


def from_annotations(config: DatasetConfig, root: Path) -> Listing:
    """
    Raises:
        ConfigError: no annotations or lists, or a line that names an event or element that the annotations lack.
    """
    found = sorted(root.glob("finegym_annotation_info*.json"))
    if not found or not config.lists:
        raise ConfigError(
            f"dataset {config.name}: layout finegym needs finegym_annotation_info_v1.0.json in {root} and "
            "data.dataset.lists={train: gym99_train_element_v1.0.txt, val: gym99_val_element.txt}; for CARL's pickles "
            "take layout=lists"
        )
    try:
        annotations = json.loads(found[-1].read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ConfigError(f"{found[-1]} is no JSON text ({error})") from None
    entries: dict[str, Entry] = {}
    for split, name in config.lists.items():
        if not (root / name).is_file():
            raise ConfigError(f"dataset {config.name}: no list file {root / name}")
        for event, (where, elements) in _elements(root / name).items():
            if event in entries:
                raise ConfigError(f"{where}: {event} has elements in {split} and in {entries[event].split}")
            number, segments, (start, end) = _segments(annotations, event, elements, where)
            frames, whole = partial(element_labels, segments), Trim(f"{event[:11]}.mp4", start, end)
            entries[event] = Entry(f"{event}.mp4", number, split, where, event[:11], frames, whole)
    placed, notes = _placed(tuple(entries.values()), root)
    kinds = tuple(str(number) for number in range(max((e.label for e in placed), default=-1) + 1))
    names = _categories(root, tuple(config.lists.values()))
    return Listing("finegym", kinds, placed, notes=notes, misses_files=bool(notes), frame_classes=names)


def _placed(entries: tuple[Entry, ...], root: Path) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """The events where they lie; where none is there and whole videos are, the events as they are to be cut."""
    folders, below = Folders(root), homes(root)
    place = find_rule([entry.path for entry in entries], below, folders)
    if not any(folders.find(place(entry.path)) for entry in entries):
        videos = sorted({entry.trim.video for entry in entries if entry.trim})
        at = find_rule(videos, below, folders)
        if any(folders.find(at(video)) for video in videos):
            cut = tuple(replace(e, trim=replace(e.trim, video=at(e.trim.video))) for e in entries if e.trim)
            return cut, (f"{len(cut)} events are cut from {len(videos)} videos, as far as these are there",)
    return tuple(replace(entry, path=place(entry.path), trim=None) for entry in entries), ()


def _elements(path: Path) -> Mapping[str, tuple[str, dict[str, int]]]:
    """Event id -> (line of its first element, element id -> class)."""
    events: dict[str, tuple[str, dict[str, int]]] = {}
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        match = _ELEMENT.fullmatch(line.strip())
        if match is None:
            raise ConfigError(f"{path.name}:{number}: {line.strip()!r}; expected `<video>_E_.._.._A_.._.. <class>`")
        event = f"{match['video']}_{match['event']}"
        events.setdefault(event, (f"{path.name}:{number}", {}))[1][match["element"]] = int(match["label"])
    return events


def _segments(
    annotations: Any, event: str, elements: Mapping[str, int], where: str
) -> tuple[int, Segments, tuple[float, float]]:
    """(number of the kind of event, labelled segments in the order of the annotations, the event in its video)."""
    try:
        annotated = annotations[event[:11]][event[12:]]
        known, number = annotated["segments"] or {}, int(annotated["event"])
        start, end = map(float, annotated["timestamps"][0])
        rows = [(*map(float, known[one]["timestamps"][-1]), elements[one]) for one in known if one in elements]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ConfigError(f"{where}: {event} is not annotated, or not wholly ({error!r})") from None
    if len(rows) < len(elements):
        raise ConfigError(f"{where}: the annotations of {event} lack {', '.join(sorted(set(elements) - set(known)))}")
    return number, np.array(rows, dtype=np.float64).reshape(-1, 3), (start, end)


def _categories(root: Path, lists: Sequence[str]) -> tuple[str, ...]:
    """Names of the elements' classes from gym99_categories.txt or its like, if it is there."""
    for name in lists:
        path = root / f"{name.partition('_')[0]}_categories.txt"
        if path.is_file():
            found = [_CATEGORY.fullmatch(line.strip()) for line in text_lines(path)]
            names = {int(match["label"]): match["name"] for match in found if match}
            return tuple(names.get(number, str(number)) for number in range(max(names, default=-1) + 1))
    return ()
