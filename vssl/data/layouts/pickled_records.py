"""CARL's pickles: Pouring, PennAction and FineGym as lists of records, one per video, with a label for every frame."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vssl.config import ConfigError
from vssl.data.label_runs import written_labels
from vssl.data.layouts.plain_pickles import read_pickle
from vssl.data.listing import FrameLabels


@dataclass(frozen=True)
class Record:
    """One video: its class is the action (PennAction) or event (FineGym); Pouring has only one."""

    path: str
    label: str
    number: int | None  # of the class, where the record gives it
    frame_labels: FrameLabels


def read_records(path: Path) -> Iterator[Record]:
    """Records of a pickled list, or of a pair of a list and indices per action.

    Raises:
        ConfigError: no plain data, or of another shape.
    """
    value = read_pickle(path)
    records = value[0] if isinstance(value, tuple) and value else value
    if not isinstance(records, list) or not records:
        raise ConfigError(f"{path} holds no list of records; expected those of CARL's Pouring, PennAction or FineGym")
    actions = _action_names(records)
    for count, record in enumerate(records, start=1):
        where = f"{path}:{count}"
        try:
            video, labels, length = record["video_file"], np.asarray(record["frame_label"]), int(record["seq_len"])
        except (TypeError, KeyError, ValueError) as error:
            raise ConfigError(f"{where}: a record without {error}; it has {_keys(record)}") from None
        if labels.ndim != 1 or labels.dtype.kind not in "iuf" or not np.array_equal(labels, labels.astype(np.int64)):
            raise ConfigError(f"{where}: frame_label of {video} is no list of whole numbers")
        if len(labels) != length:
            raise ConfigError(f"{where}: {video} has {len(labels)} frame labels and seq_len {length}")
        action = record.get("action_label", record.get("event_label"))
        number = None if action is None else int(action)
        label = "pouring" if number is None else actions.get(number, str(number))
        yield Record(str(video), label, number, partial(written_labels, labels.astype(np.int64)))


def _action_names(records: list[Any]) -> dict[int, str]:
    """Names of PennAction's classes, which its videos carry: 0001_baseball_pitch."""
    names: dict[int, str] = {}
    for record in records:
        if isinstance(record, dict) and "action_label" in record and "_" in str(record.get("name", "")):
            names[int(record["action_label"])] = str(record["name"]).partition("_")[2]
    return names


def _keys(record: Any) -> str:
    return ", ".join(map(str, record)) if isinstance(record, dict) else type(record).__name__
