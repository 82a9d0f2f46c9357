"""Training from the labels of frames: which label a slot gets, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.frame_sources import phases_source
from tests.tiny_source import make_source
from tests.tiny_stages import Stage, framing, history
from vssl.artifacts import Artifact
from vssl.data.label_runs import labels_at, load_frame_labels
from vssl.data.views.augment_config import SequenceAugmentConfig
from vssl.data.views.view_makers import view_for_pretraining
from vssl.run import StageError
from vssl.stages import pretrain
from vssl.stages.pretrain_config import PretrainConfig
from vssl.stages.sources import clips, frame_labels, train_loader

METHOD: dict[str, Any] = {"name": "carl", "objective": "supervised", "num_classes": 3, "unit_embeddings": False}
METHOD["embedder"] = {"name": "frame", "fc_dims": [8, 8], "embedding_dim": 6}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return phases_source(tmp_path_factory.mktemp("phases"), phases=3, videos_train=6, videos_val=2, frames=[16, 20])


def supervised(**changes: Any) -> PretrainConfig:
    return framing(**{"method": METHOD, "augment": {"name": "sequence", "num_views": 1}} | changes)


def test_slots_outside_of_a_video_have_no_label() -> None:
    labels = np.array([0, 0, -1, 2])
    found = labels_at(labels, np.array([[-1, 0, 2], [3, 4, 9]]))
    assert found.tolist() == [[-1, 0, -1], [2, -1, -1]]


def test_batches_hold_the_labels_of_their_slots(dataset: Artifact) -> None:
    config, inputs = supervised(), {"dataset": (dataset,)}
    view = view_for_pretraining(SequenceAugmentConfig(num_views=1), config.data.crop_size)
    videos = clips(config.data, "train", inputs, seed=0, view=view)
    labels = frame_labels(inputs, videos.video_ids, "train")
    assert labels.keys() == load_frame_labels(dataset.path).keys()
    loader = train_loader(config, videos, torch.device("cpu"), frame_labels=labels)
    for batch in loader.batches(0):
        assert batch["frame_labels"].shape == batch["steps"].shape
        for name, steps, found in zip(batch["video_ids"], batch["steps"].tolist(), batch["frame_labels"].tolist()):
            known = labels[name].tolist()
            assert found == [[known[step] if step < len(known) else -1 for step in view] for view in steps]
    loader.close()
    plain = train_loader(config, videos, torch.device("cpu"))
    assert all("frame_labels" not in batch for batch in plain.batches(0))
    plain.close()


def test_it_learns_phases_and_says_how_many(dataset: Artifact, tmp_path: Path) -> None:
    stage = Stage(
        pretrain.run, supervised(epochs=3, optim={"name": "adam", "base_lr": 0.01}), {"dataset": (dataset,)}, "s"
    )
    metrics = stage.execute(tmp_path)
    assert metrics["loss_last"] < metrics["loss_first"]
    assert 0 <= metrics["accuracy_last"] <= 1
    assert all("accuracy" in values for _, values in history(tmp_path / "s"))


def test_labels_that_are_not_there_or_too_many_are_refused(dataset: Artifact, tmp_path: Path) -> None:
    few = Stage(pretrain.run, supervised(method=METHOD | {"num_classes": 2}), {"dataset": (dataset,)}, "few")
    with pytest.raises(StageError, match="have 3 labels; set it to that"):
        few.execute(tmp_path)
    plain, _ = make_source(tmp_path / "plain", train=6, test=2)
    with pytest.raises(StageError, match="have no labels of frames"):
        replace(few, inputs={"dataset": (plain,)}, name="none").execute(tmp_path)
