"""Small copies of a dataset's videos, as a stage of kind `transcode` leaves them: its tables say what they are."""

from functools import partial
from pathlib import Path

import pandas as pd

from vssl.artifacts import read_json
from vssl.config import ConfigError
from vssl.data.dataset_config import DatasetConfig
from vssl.data.label_runs import load_frame_labels, written_labels
from vssl.data.listing import Entry, Listing


def is_transcoded(root: Path) -> bool:
    return (root / "manifest.parquet").is_file() and (root / "source.json").is_file()


def from_tables(config: DatasetConfig, root: Path) -> Listing:
    """Ids, labels and splits are those of the originals, so that the same clips are drawn from both.

    Raises:
        ConfigError: no tables, or a division into splits is asked for that the copies may not have.
    """
    record = read_json(root / "source.json") if is_transcoded(root) else None
    if record is None:
        raise ConfigError(
            f"dataset {config.name}: layout is transcoded, but {root} does not hold manifest.parquet and source.json; "
            "set data.dataset.path to artifacts/videos of a stage of kind transcode"
        )
    if config.fold != 1 or config.lists:
        asked = f"fold={config.fold}" if config.fold != 1 else f"lists={', '.join(config.lists.values())}"
        raise ConfigError(
            f"dataset {config.name}: {asked}, but {root} holds copies, which keep the splits of the dataset they were "
            "made of; leave it out, or transcode the dataset of those splits"
        )
    labels = load_frame_labels(root)
    entries = [
        Entry(
            row["path"],
            row["label"],
            row["split"],
            group=row["group"],
            frame_labels=partial(written_labels, labels[row["video_id"]]) if labels else None,
            copy_of=row["video_id"],
        )
        for row in pd.read_parquet(root / "manifest.parquet").to_dict("records")
    ]
    missing = [one["path"] for one in record["excluded"]]
    notes = [f"{len(missing)} videos have no copy, the first is {missing[0]}"] if missing else []
    return Listing(
        "transcoded",
        tuple(record["classes"]),
        tuple(entries),
        notes=(f"copies of dataset {record['name']}", *notes),
        frame_classes=tuple(record.get("frame_classes", ())),
    )
