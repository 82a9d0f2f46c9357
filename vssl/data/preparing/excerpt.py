"""A few videos of a prepared dataset as a dataset of its own: for trying out a pipeline before it gets days of time."""

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vssl.artifacts import canonical_json, read_json, sha256_text, write_atomic, write_json


def excerpt(source: Path, target: Path, *, videos: Mapping[str, int], min_frames: int) -> dict[str, Any]:
    """Write a source artifact that names some of another one's videos, which stay where they are.

    The shortest videos that are long enough are taken, from as many classes as there is room for; where they are too
    few, the longest of the others.

    Args:
        source: folder of the prepared dataset.
        target: folder that is made.
        videos: split -> how many of its videos; no other split is in the excerpt.
        min_frames: length from which a video will do.

    Returns:
        The excerpt's source.json, with `of_videos` and `of_frames`: the sizes of the whole, and `frames`.
    """
    record, table = read_json(source / "source.json"), pd.read_parquet(source / "manifest.parquet")
    parts = [_shortest(table[table["split"] == split], number, min_frames) for split, number in videos.items()]
    chosen = pd.concat(parts).sort_values("video_id")
    target.mkdir(parents=True)
    for path in source.iterdir():  # whatever else a layout brings along
        if path.is_file() and path.name not in ("manifest.parquet", "source.json"):
            shutil.copyfile(path, target / path.name)
    write_atomic(target / "manifest.parquet", lambda stream: chosen.to_parquet(stream, index=False))
    record |= {
        "digest": sha256_text(canonical_json(sorted(chosen["sha256"]))),
        "splits": dict(Counter(chosen["split"])),
        "frames": int(chosen["frames"].sum()),
        "of_videos": len(table),
        "of_frames": int(table["frames"].sum()),
    }
    write_json(target / "source.json", record)
    return dict(record)


def _shortest(rows: pd.DataFrame, number: int, min_frames: int) -> pd.DataFrame:
    """Some rows of a split: the shortest that will do of each class, then the second shortest of each, and so on.

    Where too few are long enough, the longest of the others join them.
    """
    short = rows["frames"] < min_frames
    ordered = rows.assign(short=short, rank=rows["frames"].where(~short, -rows["frames"]))
    ordered = ordered.sort_values(["short", "rank", "video_id"])
    ordered["turn"] = ordered.groupby(["short", "label"]).cumcount()
    ordered = ordered.sort_values(["short", "turn", "rank", "video_id"])
    return ordered.head(number).drop(columns=["short", "rank", "turn"])
