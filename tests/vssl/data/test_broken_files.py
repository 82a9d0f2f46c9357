"""A folder of which a part is damaged in every way: no crash, no hang, no leak, and an exact account of each file."""

import os
import random
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from tests.broken import SUFFIXES, good_files, unique, ways
from vssl.artifacts import read_json
from vssl.data.dataset_config import DatasetConfig
from vssl.data.decode import read_frames
from vssl.data.prepare import prepare


def make(root: Path, number: int, each: int, seed: int) -> dict[str, str]:
    """Path -> how it was damaged, "" if it was not."""
    rng = random.Random(seed)
    root.mkdir()
    (root.parent / "whole").mkdir()
    files = good_files(root.parent / "whole")
    made: dict[str, str] = {}
    for name, way in ways(files).items():
        for count in range(each):
            suffix = rng.choice(SUFFIXES)
            made[f"a/{name} {count}{suffix}"] = name
            write(root / f"a/{name} {count}{suffix}", way.damage(files[suffix], rng))
    for count in range(number):
        suffix = SUFFIXES[count % len(SUFFIXES)]
        made[f"b/{count}{suffix}"] = ""
        write(root / f"b/{count}{suffix}", unique(files[suffix], suffix, count))
    return made


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(2))
def test_broken_files_are_counted_exactly_and_named_with_their_reasons(tmp_path: Path, seed: int) -> None:
    made = make(tmp_path / "videos", number=20, each=4, seed=seed)
    surely = {name: way.surely for name, way in ways({}).items()} | {"": False}
    open_before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (a listing holds no descriptor of its own here)
    config = DatasetConfig(name="d", path=str(tmp_path / "videos"), max_broken_share=0.9, test_share=0)
    record = prepare(config, tmp_path / "sources", lambda text: None)
    assert len(os.listdir("/proc/self/fd")) == open_before  # noqa: PTH208

    report = read_json(tmp_path / "sources" / config.key() / "report.json")
    table = pd.read_parquet(tmp_path / "sources" / config.key() / "manifest.parquet")
    reasons = {one["path"]: one["reason"] for one in record["excluded"]}
    assert len(record["excluded"]) == len(reasons)
    assert set(reasons) | set(table["path"]) == set(made)
    assert not set(reasons) & set(table["path"])
    assert sum(report["excluded"].values()) == len(reasons)
    assert sum(Counter(report["reasons"]).values()) <= len(reasons)
    assert all(reasons.values()), "each has a reason"
    assert {path for path, how in made.items() if not how} <= set(table["path"]), "no good file is lost"
    assert {path for path, how in made.items() if surely[how]} <= set(reasons), "no hopeless file is kept"
    assert {reasons[path] for path, how in made.items() if how == "empty"} == {"the file is empty"}
    assert {reasons[path] for path, how in made.items() if how == "no video stream"} == {"no video stream"}
    for row in table[table["path"].str.startswith("a/")].itertuples():  # damaged, and yet decodable to its end
        frames = read_frames(tmp_path / "videos" / row.path, range(row.frames), seekable=row.seekable)
        assert frames.shape == (row.frames, row.height, row.width, 3)
