"""Fine-tuning, tests in several crops, and the test of a classifier that another stage trained."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from tests.tiny_stages import BACKBONE, Stage, artifact_of, clips, finetuning, runtime, weights_of
from vssl.backbones.backbone_config import S3DConfig, TinyConfig
from vssl.backbones.build import build_backbone
from vssl.config import ConfigError, build, semantic
from vssl.data.sampling.samplers import Dense, VideoClips
from vssl.data.views.augment import centre_crop, crop, flip, resize, resize_short_side, to_planes, to_view
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.drawn import finished
from vssl.loop import train
from vssl.methods import Position
from vssl.methods.supervised import Supervised
from vssl.nn.mixup import mixed, soft_targets
from vssl.nn.mixup_config import MixupConfig
from vssl.randomness import stream
from vssl.run import StageError
from vssl.stages import classifier_training, fusion, multiview
from vssl.stages.crops_view import CropsView
from vssl.stages.fusion_config import FusionConfig
from vssl.stages.multiview_config import MultiviewConfig
from vssl.weights import load_weights


def views(frames: Tensor, crops: int, **config: Any) -> Tensor:
    """(crops, 3, T, S, S) of a video that is one window, as the view takes them."""
    view = CropsView(TestViewConfig(**config), 8, crops)
    drawn = view.draw(lambda purpose: stream(0, purpose), VideoClips(len(frames), 25.0, Dense(len(frames), 1)))
    return torch.stack([finished(one, frames[torch.from_numpy(one.indices)], 0) for one in drawn])


@pytest.mark.parametrize("crops", [5, 10])
def test_crops_come_in_the_published_order(crops: int) -> None:
    """Centre, top left, top right, bottom left, bottom right; then the same of the mirrored frame."""
    frames = torch.randint(256, (4, 14, 20, 3), dtype=torch.uint8, generator=stream(0))
    planes = to_planes(frames)
    expected = []
    for picture in (planes, flip(planes))[: crops // 5]:
        corners = [crop(picture, (top, left, 12, 12)) for top in (0, 2) for left in (0, 8)]
        expected += [to_view(resize(one, 8, 8)) for one in (centre_crop(picture, 12), *corners)]
    assert torch.equal(views(frames, crops, centre_crop=12), torch.stack(expected))


def test_a_narrow_video_is_enlarged_before_it_is_cropped() -> None:
    frames = torch.randint(256, (4, 10, 30, 3), dtype=torch.uint8, generator=stream(0))
    found = views(frames, 5, centre_crop=12)
    wide = resize_short_side(to_planes(frames), 12)
    assert torch.equal(found[0], to_view(resize(centre_crop(wide, 12), 8, 8)))
    assert views(frames, 5, centre_crop=0).shape == found.shape


def test_crops_of_crops_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"test_crops is ten and test_view\.num_crops is 3"):
        finetuning(test_crops="ten", test_view={"num_crops": 3})


def test_point_14_mixup_of_an_odd_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="global_batch_size is 3 and mixup is on"):
        finetuning(batch=3, bn_group_size=3, mixup={})


def supervised(**changes: Any) -> Supervised:
    torch.manual_seed(0)
    return Supervised(build_backbone(TinyConfig(width=4)), 3, **({"dropout": 0.9, "seed": 0} | changes))


def at(step: int) -> Position:
    return Position(step=step, epoch=0, steps_per_epoch=9, epochs=1)


def test_point_14_the_published_network_has_the_published_size() -> None:
    with torch.device("meta"):
        network = Supervised(build_backbone(S3DConfig()), 101, dropout=0.9, seed=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_013_573


def test_dropout_is_a_function_of_the_step_and_keeps_the_mean() -> None:
    method, pooled = supervised(), torch.ones(64, 16)
    kept = method._kept(pooled, at(3))
    assert torch.equal(kept, method._kept(pooled, at(3)))
    assert not torch.equal(kept, method._kept(pooled, at(4)))
    assert sorted(kept.unique().tolist()) == pytest.approx([0.0, 10.0])
    assert kept.mean().item() == pytest.approx(1.0, abs=0.3)
    assert torch.equal(supervised(dropout=0.0)._kept(pooled, at(0)), pooled)


def test_mixed_batches_are_a_function_of_the_step_and_their_loss_is_of_soft_targets() -> None:
    clips, labels = torch.randn(4, 1, 3, 4, 16, 16), torch.tensor([0, 1, 2, 0])
    batch = {"streams": {"rgb": clips}, "labels": labels}
    method = supervised(dropout=0.0, mixup=MixupConfig(), label_smoothing=0.1)
    for step in range(4):
        loss, scalars = method(batch, at(step))
        assert torch.equal(loss, method(batch, at(step))[0])
        mix = method._mix(clips[:, 0], at(step))
        logits = method.classify(mixed(clips[:, 0], clips[:, 0].flip(0), mix))
        targets = soft_targets(labels, labels.flip(0), mix, num_classes=3, smoothing=0.1)
        torch.testing.assert_close(loss, -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean())
        assert set(scalars) == {"accuracy", "top5"}
    assert len({method._mix(clips[:, 0], at(step)).share for step in range(4)}) == 4


def test_label_smoothing_without_mixup() -> None:
    batch = {"streams": {"rgb": torch.randn(3, 1, 3, 4, 16, 16)}, "labels": torch.tensor([0, 1, 2])}
    plain, smooth = (supervised(dropout=0.0, label_smoothing=share) for share in (0.0, 0.3))
    log_p = smooth.classify(batch["streams"]["rgb"][:, 0]).log_softmax(dim=1)
    expected = 0.7 * plain(batch, at(0))[0] - 0.3 * log_p.mean()
    torch.testing.assert_close(smooth(batch, at(0))[0], expected)


def test_one_coin_mirrors_a_whole_batch() -> None:
    batch = {"streams": {"rgb": torch.randn(4, 1, 3, 4, 16, 16)}, "labels": torch.tensor([0, 1, 2, 0])}
    mirrored = {"streams": {"rgb": batch["streams"]["rgb"].flip(-1)}, "labels": batch["labels"]}
    always, never = (supervised(dropout=0.0, batch_flip=share) for share in (1.0, 0.0))
    assert torch.equal(always(batch, at(0))[0], never(mirrored, at(0))[0])
    half = supervised(dropout=0.0, batch_flip=0.5)
    flipped = [torch.equal(half(batch, at(step))[0], never(mirrored, at(step))[0]) for step in range(20)]
    assert 3 < sum(flipped) < 17


@pytest.fixture(scope="module")
def stages(stages: dict[str, Stage], root: Path) -> dict[str, Stage]:
    """With linear and finetune executed in `root`."""
    made = stages | {"finetune": replace(stages["finetune"], config=finetuning(test_crops="ten"))}
    for kind in ("linear", "finetune"):
        made[kind].execute(root)
    return made


def test_point_14_fine_tuning_trains_the_backbone_at_a_share_of_the_rate(
    stages: dict[str, Stage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[list[tuple[bool, float]]] = []

    def train_and_look(method: Supervised, optimizer: torch.optim.Optimizer, *rest: Any, **more: Any) -> None:
        train(method, optimizer, *rest, **more)
        own = {id(parameter) for parameter in method.backbone.parameters()}
        rates.append([(id(p) in own, g["lr"]) for g in optimizer.param_groups for p in g["params"]])

    monkeypatch.setattr(classifier_training, "train", train_and_look)
    for ratio in (1, 10):
        config = replace(finetuning(), backbone_lr_ratio=ratio)
        replace(stages["finetune"], config=config).execute(tmp_path / str(ratio))
        (base,) = {rate for is_backbone, rate in rates[-1] if not is_backbone}
        (slow,) = {rate for is_backbone, rate in rates[-1] if is_backbone}
        assert base == pytest.approx(0.001), "0.01 before the milestone"
        assert slow == pytest.approx(base / ratio)


def table(root: Path, stage: Stage, name: str = "predictions") -> Tensor:
    read = pd.read_parquet(root / stage.name / "artifacts" / "predictions" / f"{name}.parquet")
    return torch.tensor(np.array(read["probabilities"].tolist()))


def test_fine_tuning_trains_everything_and_tests_in_ten_crops(stages: dict[str, Stage], root: Path) -> None:
    stage = stages["finetune"]
    metrics = json.loads((root / stage.name / "artifacts" / "metrics").read_text())
    assert {"top1", "top5", "top1_centre", "top1_five", "top1_ten", "train_loss_last"} <= set(metrics)
    assert metrics["top1"] == metrics["top1_ten"]
    before = load_weights(stage.inputs["weights"][0]).part("backbone")
    weights = load_weights(weights_of(root, stage)[0])
    assert weights.header["kind"] == "finetune"
    changed = {name for name, tensor in weights.part("backbone").items() if not torch.equal(tensor, before[name])}
    assert changed == set(before), "every parameter and every running statistic"
    assert not torch.equal(table(root, stage, "centre"), table(root, stage, "five"))
    assert torch.equal(table(root, stage, "ten"), table(root, stage))


def test_predictions_are_json_too(stages: dict[str, Stage], root: Path) -> None:
    for kind in ("linear", "finetune"):
        folder = root / stages[kind].name / "artifacts" / "predictions"
        rows = json.loads((folder / "predictions.json").read_text())
        read = pd.read_parquet(folder / "predictions.parquet")
        assert list(rows) == read["video_id"].tolist()
        assert [row["label"] for row in rows.values()] == read["label"].tolist()
        found = torch.tensor([row["mean_prob"][0] for row in rows.values()])
        torch.testing.assert_close(found, table(root, stages[kind]), rtol=0, atol=1e-6)


def retesting(stages: dict[str, Stage], root: Path, kind: str, **changes: Any) -> Stage:
    """The test of a classifier that `linear` or `finetune` trained, as that stage tests it itself."""
    view = {"centre_crop": 0} if kind == "linear" else {"centre_crop": 12}
    crops = "centre" if kind == "linear" else "ten"
    given = {"backbone": BACKBONE, "data": clips("rgb"), "test_view": view, "test_crops": crops, "runtime": runtime()}
    inputs = dict(stages["linear"].inputs) | {"weights": weights_of(root, stages[kind])}
    return Stage(multiview.run, build(MultiviewConfig, given | changes), inputs, f"multiview-{kind}")


@pytest.mark.parametrize("kind", ["linear", "finetune"])
def test_a_classifier_that_is_tested_again_says_the_same(
    kind: str, stages: dict[str, Stage], root: Path, tmp_path: Path
) -> None:
    stage = retesting(stages, root, kind)
    metrics = stage.execute(tmp_path)
    own = json.loads((root / stages[kind].name / "artifacts" / "metrics").read_text())
    assert metrics == {name: own[name] for name in metrics}
    torch.testing.assert_close(table(tmp_path, stage), table(root, stages[kind]))


def test_a_head_is_in_float32_where_its_network_is_in_half_precision(
    stages: dict[str, Stage], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_head, seen = multiview._head, []

    def watched(*given: Any) -> Any:
        head = build_head(*given)
        head.linear.register_forward_hook(lambda _, inputs, logits: seen.append((inputs[0].dtype, logits.dtype)))
        return head

    monkeypatch.setattr(multiview, "_head", watched)
    retesting(stages, root, "finetune", runtime=runtime(amp="bf16")).execute(tmp_path)
    assert set(seen) == {(torch.float32, torch.float32)}


def test_thirty_views_are_the_same_every_time_whatever_takes_the_mean(
    stages: dict[str, Stage], root: Path, tmp_path: Path
) -> None:
    """Ten clips in three crops; the largest score of any view is no less than the mean, and legacy views are others."""
    view = {"centre_crop": 0, "num_clips": 10, "num_crops": 3}
    found = {}
    for name, changes in {
        "mean": {},
        "again": {"batch_size": 7},
        "max": {"scores": "max"},
        "legacy": {"test_view": view | {"legacy_views": [16, 20]}},
        "legacy again": {"test_view": view | {"legacy_views": [16, 20]}, "batch_size": 7},
    }.items():
        stage = retesting(stages, root, "finetune", **{"test_crops": "centre", "test_view": view} | changes)
        stage.execute(tmp_path / name)
        found[name] = table(tmp_path / name, stage)
    torch.testing.assert_close(found["mean"], found["again"])
    torch.testing.assert_close(found["legacy"], found["legacy again"])
    assert (found["max"] >= found["mean"]).all()
    assert (found["max"].sum(dim=1) > 1).all()
    assert not torch.equal(found["mean"], found["legacy"])


def test_several_numbers_of_clips_in_one_test_equal_each_alone(
    stages: dict[str, Stage], root: Path, tmp_path: Path
) -> None:
    """Clips of another number lie elsewhere in the video: one is no part of three."""
    counts = (1, 3, 2)
    view = {"test_crops": "centre", "test_view": {"centre_crop": 0, "num_clips": 2, "num_crops": 3}}
    together = retesting(stages, root, "finetune", **view, clip_counts=list(counts))
    metrics = together.execute(tmp_path)
    for count in counts:
        view["test_view"]["num_clips"] = count
        alone = retesting(stages, root, "finetune", **view)
        expected = alone.execute(tmp_path / str(count))
        assert [metrics[f"top{k}_clips_{count}"] for k in (1, 5)] == [expected[f"top{k}"] for k in (1, 5)]
        assert torch.equal(table(tmp_path, together, f"clips_{count}"), table(tmp_path / str(count), alone))
        if count == 2:
            assert {name: metrics[name] for name in expected} == expected, "the main figures are those without"
    one, three = (table(tmp_path, together, f"clips_{count}") for count in (1, 3))
    assert not torch.allclose(one, three)
    assert "clip_counts" not in semantic(retesting(stages, root, "finetune").config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_counts": [1, 3, 1]}, r"clip_counts is \[1, 3, 1\]; give each number once"),
        ({"clip_counts": [0]}, "clip_counts` is .*expected at least 1"),
        (
            {"clip_counts": [3], "data": clips("rgb") | {"sampling": {"name": "segments", "sparse": True}}},
            r"clip_counts is \[3\] and data\.sampling makes one clip",
        ),
    ],
)
def test_numbers_of_clips_that_cannot_be_tested_are_refused(changes: dict[str, Any], message: str) -> None:
    given = {"backbone": BACKBONE, "data": clips("rgb"), "test_crops": "centre", "runtime": runtime()}
    with pytest.raises(ConfigError, match=message):
        build(MultiviewConfig, given | changes)


def test_ten_crops_of_legacy_views_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"test_crops is ten and test_view\.legacy_views is given"):
        finetuning(test_crops="ten", test_view={"legacy_views": [18, 20]})


def test_the_batch_of_a_test_changes_nothing(stages: dict[str, Stage], root: Path, tmp_path: Path) -> None:
    """Also where a video's crops are spread over batches."""
    found = []
    for size in (3, 32):
        stage = retesting(stages, root, "finetune", batch_size=size)
        stage.execute(tmp_path / str(size))
        found.append([table(tmp_path / str(size), stage, name) for name in ("centre", "five", "ten")])
    torch.testing.assert_close(*found)


def test_weights_without_a_classifier_or_of_other_classes_are_refused(
    stages: dict[str, Stage], root: Path, tmp_path: Path
) -> None:
    stage = retesting(stages, root, "linear")
    pretrained = {"weights": stages["linear"].inputs["weights"]}
    with pytest.raises(StageError, match="hold no classifier; bind those of a linear or a finetune stage"):
        replace(stage, inputs={**stage.inputs, **pretrained}).execute(tmp_path)
    (artifact,) = stage.inputs["weights"]
    content = torch.load(artifact.path, weights_only=True)
    content["header"] = content["header"].replace('"left"', '"up"')
    torch.save(content, tmp_path / "other.pt")
    other = {"weights": (replace(artifact, path=tmp_path / "other.pt"),)}
    with pytest.raises(StageError, match=r"knows 2 classes \(up, right, \.\.\.\), the dataset has 2 \(left, right"):
        replace(stage, inputs={**stage.inputs, **other}).execute(tmp_path)


def test_fused_predictions_are_written(stages: dict[str, Stage], root: Path, tmp_path: Path) -> None:
    bound = {"rgb": "linear", "flow": "finetune"}
    inputs = {role: artifact_of(root, stages[kind], "predictions") for role, kind in bound.items()}
    stage = Stage(fusion.run, FusionConfig(), inputs, "fused")
    stage.execute(tmp_path)
    mean = (table(root, stages["linear"]) + table(root, stages["finetune"])) / 2
    torch.testing.assert_close(table(tmp_path, stage), mean)
