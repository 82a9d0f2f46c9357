"""Pretraining that is watched by nearest neighbours: what it reports, and that it learns the same."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny_source import make_source
from tests.tiny_stages import (
    EPOCH_STEPS,
    Stage,
    fingerprint,
    framing,
    history,
    masking,
    pretraining,
    remembering,
    weights_of,
)
from vssl.backbones.build import build_backbone
from vssl.config import ConfigError, build, semantic, to_mapping
from vssl.data.clips import ClipDataset
from vssl.data.loader import TestLoader
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.drawn import TestView
from vssl.evals.knn import knn_scores
from vssl.evals.metrics import top_k
from vssl.methods import load_method
from vssl.run import StageError, Stopped
from vssl.stages import knn_monitor, pretrain
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


def described(stage: Stage, split: str, network: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Vectors of a split's videos by one central clip each, and their labels."""
    view = TestView(TestViewConfig(centre_crop=0, num_clips=1), stage.config.data.crop_size)
    (source,) = stage.inputs["dataset"]
    dataset = ClipDataset(stage.config.data, split, dataset=source, motion=None, seed=0, view=view)
    (batch,) = TestLoader(dataset, 99)
    with torch.no_grad():
        return network(batch["streams"]["rgb"]), batch["labels"]


def vote(stage: Stage, network: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Scores of the test videos by three neighbours in a slow twin, and their labels."""
    bank, labels = described(stage, "train", network)
    queries, answers = described(stage, "test", network)
    scores = []
    for query in queries:
        cosine = torch.cosine_similarity(query[None], bank)
        row = [0.0, 0.0]  # of the two classes
        for near in cosine.argsort(descending=True)[:3].tolist():
            row[int(labels[near])] += float((cosine[near] / 0.5).exp())
        scores.append(row)
    return torch.tensor(scores), answers


def test_the_vote_equals_its_slow_twin(stage, watched) -> None:
    root, metrics = watched
    backbone = build_backbone(stage.config.backbone)
    backbone.load_state_dict(load_weights(weights_of(root, stage)[0]).part("backbone"))
    assert metrics["knn_top1"] == top_k(*vote(stage, lambda x: backbone.eval()(x).mean(dim=(2, 3, 4))), 1)


@pytest.mark.parametrize("pretrained", [pretraining("rgb"), remembering()], ids=["vicc", "fgkvmem"])
def test_neighbours_by_the_projector_are_those_of_its_embeddings(pretrained, stage, tmp_path, monkeypatch) -> None:
    asked: list[Tensor] = []

    def kept(*given: Any, **how: Any) -> Tensor:
        asked.append(knn_scores(*given, **how))
        return asked[-1]

    monkeypatch.setattr(knn_monitor, "knn_scores", kept)
    watch = KNNMonitorConfig(every_epochs=2, k=3, features="projector")
    own = Stage(pretrain.run, replace(pretrained, knn=watch), stage.inputs, "projected")
    own.execute(tmp_path)
    method = load_method(own.config.method.name)(
        own.config.method, own.config.backbone, global_batch_size=own.config.global_batch_size, seed=own.config.seed
    ).eval()
    weights = load_weights(weights_of(tmp_path, own)[0])
    encoder = method.encoders[0] if own.config.method.name == "vicc" else method.online
    for part in ("backbone", "projector"):
        getattr(encoder, part).load_state_dict(weights.part(part))
    torch.testing.assert_close(asked[-1], vote(own, method.project)[0])
    features = vote(own, lambda x: method.backbone(x).mean(dim=(2, 3, 4)))[0]
    assert not torch.allclose(asked[-1], features, rtol=1e-3)


def test_a_method_without_projector_has_no_neighbours_by_it() -> None:
    for method in (framing(), masking()):
        with pytest.raises(ConfigError, match=r"knn\.features is projector and method\.name is (carl|maskfeat)"):
            build(PretrainConfig, to_mapping(method) | {"knn": {"features": "projector"}})


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
