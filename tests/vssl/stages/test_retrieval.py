"""Retrieval: features of a gallery and of queries, whose neighbours are the figures."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.tiny_stages import Stage, searching
from vssl.artifacts import read_json
from vssl.config import ConfigError
from vssl.run import Stopped
from vssl.stages import retrieval_pictures


def without_weights(stage: Stage) -> Stage:
    return replace(stage, inputs={role: ones for role, ones in stage.inputs.items() if role != "weights"})


def test_retrieval_of_trained_and_untrained_networks(stages, tmp_path, capsys):
    stage = searching(stages, "rgb")
    metrics = stage.execute(tmp_path / "trained")
    assert metrics["chance_recall_at_1"] == 0.5
    assert (metrics["gallery_videos"], metrics["query_videos"]) == (6, 2)
    assert metrics["recall_at_1"] <= metrics["recall_at_5"] <= metrics["recall_at_50"] == 1.0
    assert read_json(tmp_path / "trained" / stage.name / "artifacts" / "metrics") == metrics
    plots = tmp_path / "trained" / stage.name / "artifacts" / "plots"
    assert sorted(path.name for path in plots.iterdir()) == ["feature_space.png", "neighbours.png"]
    capsys.readouterr()
    without_weights(stage).execute(tmp_path / "untrained")
    assert "untrained network" in capsys.readouterr().out
    tables = [
        pd.read_parquet(tmp_path / which / stage.name / "artifacts" / "features" / "query.parquet")
        for which in ("trained", "untrained")
    ]
    assert tables[0]["video_id"].tolist() == tables[1]["video_id"].tolist()
    assert any((a != b).any() for a, b in zip(tables[0]["feature"], tables[1]["feature"]))


def test_a_picture_that_cannot_be_drawn_costs_no_stage_its_result(stages, tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise MemoryError("no room for a picture")

    monkeypatch.setattr(retrieval_pictures, "feature_space", broken)
    assert searching(stages, "flow").execute(tmp_path)["query_videos"] == 2
    assert "feature_space.png could not be drawn (MemoryError: no room for a picture)" in capsys.readouterr().out
    assert (tmp_path / "retrieval-flow" / "artifacts" / "plots" / "neighbours.png").is_file()


def test_a_gallery_of_one_random_clip_leaves_the_queries_as_they_are(stages, tmp_path):
    """As in the public code; queries are all windows in both modes. Its colours at test time are another choice."""
    found = {}
    for name, changes in (
        ("windows", {}),
        ("one-clip", {"gallery": "one-clip"}),
        ("again", {"gallery": "one-clip"}),
        ("compat", {"gallery": "one-clip", "test_view": {"centre_crop": 0, "compat_jitter": True}}),
    ):
        stage = searching(stages, "rgb", **changes)
        stage.execute(tmp_path / name)
        folder = tmp_path / name / stage.name / "artifacts" / "features"
        found[name] = [
            torch.tensor(np.array(pd.read_parquet(folder / f"{split}.parquet")["feature"].tolist()))
            for split in ("gallery", "query")
        ]
    assert torch.equal(found["one-clip"][1], found["windows"][1])
    assert not torch.equal(found["one-clip"][0], found["windows"][0])
    assert all(map(torch.equal, found["one-clip"], found["again"]))
    assert not all(map(torch.equal, found["compat"], found["one-clip"]))


def test_the_batch_size_of_an_evaluation_changes_nothing(stages, tmp_path):
    features = []
    for size in (1, 32):
        searching(stages, "flow", batch_size=size).execute(tmp_path / str(size))
        table = pd.read_parquet(tmp_path / str(size) / "retrieval-flow" / "artifacts" / "features" / "gallery.parquet")
        features.append(torch.tensor(np.array(table["feature"].tolist())))
    torch.testing.assert_close(*features)


def test_an_evaluation_can_be_stopped_and_started_again(stages, tmp_path):
    stage = searching(stages, "rgb", batch_size=2)
    with pytest.raises(Stopped):
        stage.execute(tmp_path, stop_requested=lambda: True)
    assert stage.execute(tmp_path)["query_videos"] == 2


def test_retrieval_of_raw_features_with_a_gallery_of_centre_clips(stages, tmp_path):
    """As FGKVMem: features are averaged as they are, and nothing is centred."""
    ten = {"centre_crop": 0, "num_clips": 2, "num_crops": 3}
    stage = searching(stages, "rgb", features="raw", gallery="centre-clip", test_view=ten, ks=[1, 2])
    found = stage.execute(tmp_path)
    tables = tmp_path / stage.name / "artifacts" / "features"
    query, gallery = (pd.read_parquet(tables / f"{name}.parquet") for name in ("query", "gallery"))
    vectors = {"query": np.stack(query["feature"]), "gallery": np.stack(gallery["feature"])}
    assert not np.allclose(np.linalg.norm(vectors["query"], axis=1), 1)
    unit = {name: one / np.linalg.norm(one, axis=1, keepdims=True) for name, one in vectors.items()}
    nearest = (unit["query"] @ unit["gallery"].T).argmax(axis=1)
    hits = gallery["label"].to_numpy()[nearest] == query["label"].to_numpy()
    assert found["recall_at_1"] == pytest.approx(hits.mean())
    pairs = 1 - unit["query"] @ unit["query"].T
    assert found["dissimilarity_of_videos"] == pytest.approx(pairs.mean(), abs=1e-5)
    assert 0 < found["dissimilarity_of_windows"] < 1
    with pytest.raises(ConfigError, match="gallery is one-clip and test_view"):
        searching(stages, "rgb", gallery="one-clip", test_view={"legacy_views": [18, 20]})
