"""Generated videos of one process: in Pouring's layout, with labels that say what frames show."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vssl.config import ConfigError, build
from vssl.data.dataset_config import DatasetConfig, PhasesConfig
from vssl.data.generated.phases import draw_progress, pose_at
from vssl.data.label_runs import load_frame_labels
from vssl.data.prepare import prepare

KNOBS = {"videos_train": 3, "videos_val": 2, "phases": 3, "size": 32, "frames": [16, 24]}


def config(**changes: Any) -> DatasetConfig:
    lists = {"train": "train.pkl", "val": "val.pkl"}
    generated = {"name": "phases"} | KNOBS | changes
    return build(DatasetConfig, {"name": "p", "layout": "lists", "lists": lists, "generated": generated})


def test_a_set_is_made_and_read_like_a_published_one(tmp_path: Path) -> None:
    record = prepare(config(), tmp_path / "sources", lambda text: None)
    assert record["splits"] == {"train": 3, "val": 2}
    assert record["frame_classes"] == ["0", "1", "2"]
    folder = tmp_path / "sources" / config().key()
    labels, table = load_frame_labels(folder), pd.read_parquet(folder / "manifest.parquet")
    assert sorted(labels) == table["video_id"].tolist()
    for name, frames in zip(table["video_id"], table["frames"]):
        assert len(labels[name]) == frames
        assert sorted(set(labels[name].tolist())) == [0, 1, 2]
        assert (np.diff(labels[name]) >= 0).all()
    again = prepare(config(), tmp_path / "sources", lambda text: None)
    assert again["digest"] == record["digest"]
    elsewhere = prepare(config(), tmp_path / "other" / "sources", lambda text: None)
    assert elsewhere["digest"] == record["digest"], "the same bytes wherever it is made"


def test_videos_go_at_their_own_speed_and_rest() -> None:
    knobs = PhasesConfig(frames=(60, 120))
    drawn = [draw_progress(knobs, np.random.default_rng(n)) for n in range(40)]
    for progress in drawn:
        assert (np.diff(progress) >= 0).all()
        assert progress[0] < 0.5
        assert progress[-1] > knobs.phases - 0.5
        assert set(progress.astype(int).tolist()) == set(range(knobs.phases))
    assert len({len(progress) for progress in drawn}) > 10
    rests = [(np.diff(progress) == 0).sum() for progress in drawn]
    assert min(rests) < 4
    assert max(rests) > 15
    still = PhasesConfig(frames=(60, 120), pauses=0.0)
    assert not any((np.diff(draw_progress(still, np.random.default_rng(n))) == 0).any() for n in range(10))


def test_a_pose_says_how_far_the_process_is() -> None:
    poses = [pose_at(state) for state in np.linspace(0, 5, 60)]
    assert len({(round(p.x, 6), round(p.y, 6), round(p.scale, 6), round(p.angle, 6)) for p in poses}) == 60


def test_lengths_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(ConfigError, match="least before most"):
        config(frames=[30, 20])
