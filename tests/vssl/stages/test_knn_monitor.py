"""Pretraining that is watched by nearest neighbours: what it reports, and that it learns the same."""

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from tests.tiny_source import make_source
from tests.tiny_stages import EPOCH_STEPS, Stage, fingerprint, history, pretraining, weights_of
from vssl.backbones.build import build_backbone
from vssl.config import ConfigError, build, semantic, to_mapping
from vssl.data.clips import ClipDataset
from vssl.data.loader import TestLoader
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.drawn import TestView
from vssl.evals.metrics import top_k
from vssl.run import StageError, Stopped
from vssl.stages import pretrain
from vssl.stages.knn_monitor_config import KNNMonitorConfig
from vssl.stages.pretrain_config import PretrainConfig
from vssl.weights import load_weights


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    dataset, _ = make_source(tmp_path_factory.mktemp("source"), train=6, test=2)
    config = replace(pretraining("rgb"), knn=KNNMonitorConfig(every_epochs=1, k=3))
    return Stage(pretrain.run, config, {"dataset": (dataset,)}, "watched")


@pytest.fixture(scope="module")
def watched(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    root = tmp_path_factory.mktemp("watched")
    return root, stage.execute(root)


def test_it_looks_before_each_epoch_and_at_the_end_and_learns_the_same(stage, watched, tmp_path) -> None:
    root, metrics = watched
    rows = history(root / stage.name)
    looked = [step for step, values in rows if "knn/top1" in values]
    assert looked == [0, EPOCH_STEPS]
    assert {"knn_top1", "knn_top5", "knn_chance_top1"} <= set(metrics)
    alone = replace(stage, config=replace(stage.config, knn=None))
    assert alone.execute(tmp_path) == {name: value for name, value in metrics.items() if not name.startswith("knn")}
    assert fingerprint(tmp_path / stage.name)["state"] == fingerprint(root / stage.name)["state"]
    plain = [(step, {k: v for k, v in values.items() if not k.startswith("knn/")}) for step, values in rows]
    assert history(tmp_path / stage.name) == plain


def test_the_vote_equals_its_slow_twin(stage, watched) -> None:
    root, metrics = watched
    backbone = build_backbone(stage.config.backbone)
    backbone.load_state_dict(load_weights(weights_of(root, stage)[0]).part("backbone"))
    described = {}
    for split in ("train", "test"):
        view = TestView(TestViewConfig(centre_crop=0, num_clips=1), stage.config.data.crop_size)
        (source,) = stage.inputs["dataset"]
        dataset = ClipDataset(stage.config.data, split, dataset=source, motion=None, seed=0, view=view)
        (batch,) = TestLoader(dataset, 99)
        with torch.no_grad():
            features = backbone.eval()(batch["streams"]["rgb"]).mean(dim=(2, 3, 4))
        described[split] = features, batch["labels"]
    bank, labels = described["train"]
    scores = []
    for query in described["test"][0]:
        cosine = torch.cosine_similarity(query[None], bank)
        row = [0.0, 0.0, 0.0]
        for near in cosine.argsort(descending=True)[:3].tolist():
            row[int(labels[near])] += float((cosine[near] / 0.5).exp())
        scores.append(row)
    assert metrics["knn_top1"] == top_k(torch.tensor(scores), described["test"][1], 1)


@pytest.mark.parametrize("after", [1, 3, 8, 9, 10])
def test_stopped_while_it_looks_and_resumed_is_bit_equal(stage, watched, tmp_path, after: int) -> None:
    """Calls of `stop_requested` count windows of the look as well as steps."""
    calls = count(1)
    with pytest.raises(Stopped):
        stage.execute(tmp_path, stop_requested=lambda: next(calls) == after)
    stage.execute(tmp_path)
    assert fingerprint(tmp_path / stage.name) == fingerprint(watched[0] / stage.name)


def test_it_is_no_part_of_the_identity_and_wants_one_stream(stage) -> None:
    assert semantic(stage.config) == semantic(replace(stage.config, knn=None))
    both = to_mapping(pretraining("both", "rgb")) | {"knn": {}}
    with pytest.raises(ConfigError, match=r"data\.modality is both and knn is given"):
        build(PretrainConfig, both)


def test_a_split_that_is_not_there_is_refused_before_training(stage, tmp_path) -> None:
    config = replace(stage.config, knn=KNNMonitorConfig(test_split="validation"))
    with pytest.raises(StageError, match="validation"):
        replace(stage, config=config).execute(tmp_path)
    assert not list((tmp_path / stage.name).glob("checkpoints/*"))
