"""From images to videos and their test, for all six networks of STS (card, section 13, points 5, 6, 14 and 15)."""

import json
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.tiny_source import make_source
from tests.tiny_stages import Stage, final_state, fingerprint, history, runtime, transforming, weights_of
from vssl.artifacts import Artifact
from vssl.backbones.build import build_backbone
from vssl.config import ConfigError, build
from vssl.nn.heads import ClassifierHead, HiddenClassifierHead, plain_head
from vssl.run import Run, StageError, Stopped
from vssl.stages import classification, finetune, image_pretrain, multiview
from vssl.stages.finetune_config import FinetuneConfig
from vssl.stages.image_pretrain_config import ImagePretrainConfig
from vssl.stages.multiview_config import MultiviewConfig
from vssl.stages.transfer import start_residuals_and_taps, take_hidden_layer
from vssl.weights import load_weights

NETS = {
    "csn50": 4, "r2plus1d34": 4, "slowfast50_4x16": 32, "slowfast50_8x8": 32, "slowonly50": 4, "x3d_s": 8,
}  # fmt: skip
VIDEOS = {"dataset": {"name": "tiny"}, "crop_size": 32}
SEGMENTS = {"name": "segments"}
Bound = dict[str, tuple[Artifact, ...]]


def imaging(name: str, **changes: Any) -> ImagePretrainConfig:
    return build(
        ImagePretrainConfig,
        {
            "epochs": 1, "global_batch_size": 4, "repeats": 2, "bn_group_size": 4, "drop_path": 0.2, "ema_decay": 0.9,
            "backbone": {"name": name, "width": NETS[name]}, "runtime": runtime(),
            "data": VIDEOS | {"num_frames": 1, "sampling": SEGMENTS},
            "schedule": {"name": "warm_epoch_cosine", "warmup_epochs": 0},
        } | changes,
    )  # fmt: skip


def tuning(name: str, **changes: Any) -> FinetuneConfig:
    return build(
        FinetuneConfig,
        {
            "epochs": 1, "global_batch_size": 4, "dropout": 0.5, "bn_group_size": 4, "precise_bn_batches": 2,
            "drop_path": 0.2, "backbone": {"name": name, "width": NETS[name], "sts": True},
            "data": VIDEOS | {"num_frames": 4, "sampling": SEGMENTS}, "runtime": runtime(),
            "augment": {"name": "resized-crop", "short_side": 36}, "test_view": {"num_clips": 1, "short_side": 32},
            "optim": {"base_lr": 0.01, "clip_norm": 40.0}, "schedule": {"name": "epoch_cosine", "warmup_epochs": 0},
        } | changes,
    )  # fmt: skip


def viewing(name: str, **changes: Any) -> MultiviewConfig:
    return build(
        MultiviewConfig,
        {
            "batch_size": 5, "backbone": {"name": name, "width": NETS[name], "sts": True}, "test_crops": "centre",
            "data": VIDEOS | {"num_frames": 4, "sampling": SEGMENTS}, "runtime": runtime(),
            "test_view": {"num_clips": 2, "num_crops": 3, "short_side": 32, "crop_size": 32},
        } | changes,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _no_pictures() -> Iterator[None]:
    """Drawing takes longer than everything else together, and is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classification, "plot", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Bound:
    dataset, _ = make_source(tmp_path_factory.mktemp("videos"), train=8, test=3, side=40)
    return {"dataset": (dataset,)}


@pytest.mark.parametrize("name", NETS)
def test_points_06_and_15_images_then_videos_then_views(
    name: str, inputs: Bound, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = Stage(image_pretrain.run, imaging(name), inputs, "images")
    learned = images.execute(tmp_path)
    assert {"top1", "top1_crop0.875", "top1_crop0.95", "train_loss_last"} <= learned.keys()
    assert learned["top1"] == learned["top1_crop0.95"]
    bound = {"weights": weights_of(tmp_path, images)}
    capsys.readouterr()
    videos = Stage(finetune.run, tuning(name), inputs | bound, "videos")
    videos.execute(tmp_path)
    said = capsys.readouterr().out
    if name == "x3d_s":
        assert (
            "took its backbone and head.hidden.weight; left head.linear.weight, head.linear.bias, head.hidden.bias"
            in said
        )
    else:
        assert "took its backbone; left head.linear.weight, head.linear.bias" in said
    tested = Stage(multiview.run, viewing(name), inputs | {"weights": weights_of(tmp_path, videos)}, "views")
    figures = tested.execute(tmp_path)
    assert figures["test_videos"] == 3
    assert 0 <= figures["mean_class_accuracy_legacy"] <= figures["mean_class_accuracy"] <= 1
    rows = json.loads((tmp_path / "views" / "artifacts" / "predictions" / "predictions.json").read_text())
    assert len(rows) == 3
    assert all(sum(row["mean_prob"][0]) == pytest.approx(1, abs=1e-5) for row in rows.values())


@pytest.fixture(scope="module")
def x3d(inputs: Bound, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("x3d")
    images = Stage(image_pretrain.run, imaging("x3d_s"), inputs, "images")
    images.execute(root)
    Stage(finetune.run, tuning("x3d_s"), inputs | {"weights": weights_of(root, images)}, "videos").execute(root)
    return root


def artifact(root: Path, name: str) -> tuple[Artifact, ...]:
    return weights_of(root, Stage(lambda *_: {}, None, {}, name))


def test_point_06_of_a_classifier_the_hidden_layers_weight_alone_is_taken(x3d: Path) -> None:
    weights = load_weights(artifact(x3d, "images")[0])
    held = weights.part("head")
    hidden, features = held["hidden.weight"].shape
    head = HiddenClassifierHead(features, hidden, 2, bias=False)  # as many classes as the images have
    before = head.linear.weight.clone()
    run: Any = type("Silent", (), {"say": lambda *_: None})()
    take_hidden_layer(head, weights, run)
    assert torch.equal(head.hidden.weight, held["hidden.weight"])
    assert torch.equal(head.linear.weight, before)
    plain: ClassifierHead = plain_head(features, 2)
    before = plain.linear.weight.clone()
    take_hidden_layer(plain, weights, run)
    assert torch.equal(plain.linear.weight, before)


def test_point_10_views_are_averaged_as_asked_for(x3d: Path, inputs: Bound, tmp_path: Path) -> None:
    """Three squares, each with two clips: the mean of six softmaxes, the mean of six logits, or six rows."""
    bound = inputs | {"weights": artifact(x3d, "videos")}
    tables = {}
    for average in ("prob", "score", "none"):
        Stage(multiview.run, viewing("x3d_s", average_clips=average), bound, average).execute(tmp_path)
        tables[average] = probabilities(tmp_path / average)
    assert len(tables["none"]) == 3 * 6
    views = tables["none"].view(3, 6, 2)
    torch.testing.assert_close(views.softmax(dim=2).mean(dim=1), tables["prob"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(views.mean(dim=1).softmax(dim=1), tables["score"], rtol=1e-5, atol=1e-6)


def test_weights_of_images_are_tested_without_training(x3d: Path, inputs: Bound, tmp_path: Path) -> None:
    """Those of a stage, and the same as the public code writes them: the probabilities of the stage's own test."""
    state = {}
    for key, tensor in load_weights(artifact(x3d, "images")[0]).tensors.items():
        for ours, theirs in (("backbone", "get_feature"), ("head.hidden", "fc1"), ("head.linear", "classifier")):
            if key.startswith(f"{ours}."):
                state[theirs + key.removeprefix(ours)] = tensor
    path = tmp_path / "model_best.pth.tar"
    torch.save({"state_dict": state, "args": Namespace(crop_pct=0.875), "epoch": 299}, path)
    published = (Artifact(type="weights", path=path, digest="", origin=f"file:{path}"),)
    one_frame = {"data": VIDEOS | {"num_frames": 1, "sampling": SEGMENTS}, "backbone": {"name": "x3d_s", "width": 8}}
    for share in (0.875, 0.95):
        own = probabilities(x3d / "images", f"crop{share:g}")
        assert len(own) == 3
        view = {"num_clips": 1, "short_side": int(32 / share), "rounding": "torchvision", "resampling": "bicubic"}
        for name, weights in (("ours", artifact(x3d, "images")), ("theirs", published)):
            stage = Stage(
                multiview.run, viewing("x3d_s", test_view=view, **one_frame), inputs | {"weights": weights}, name
            )
            stage.execute(tmp_path / f"{share:g}")
            torch.testing.assert_close(probabilities(tmp_path / f"{share:g}" / name), own)


def probabilities(stage: Path, table: str = "predictions") -> torch.Tensor:
    """(N, K) of a stage's folder."""
    read = pd.read_parquet(stage / "artifacts" / "predictions" / f"{table}.parquet")
    return torch.from_numpy(np.stack(read["probabilities"].tolist()))


def test_a_classifier_is_tested_with_the_convolutions_that_it_learned_with(
    x3d: Path, inputs: Bound, tmp_path: Path
) -> None:
    config = viewing("x3d_s", backbone={"name": "x3d_s", "width": 8})
    with pytest.raises(StageError, match=r"learned with backbone\.sts=true; set that here too"):
        Stage(multiview.run, config, inputs | {"weights": artifact(x3d, "videos")}, "other").execute(tmp_path)


@pytest.mark.parametrize(("kind", "steps"), [("images", 1), ("videos", 2)])  # in the middle of the epoch, at its end
def test_stopped_and_resumed_is_bit_equal(kind: str, steps: int, x3d: Path, inputs: Bound, tmp_path: Path) -> None:
    """With dropped paths, LAMB, a moving average and repeats; with clipped gradients and precise statistics."""
    bound = inputs if kind == "images" else inputs | {"weights": artifact(x3d, "images")}
    config = imaging("x3d_s") if kind == "images" else tuning("x3d_s")
    stage = Stage(image_pretrain.run if kind == "images" else finetune.run, config, bound, kind)
    with pytest.raises(Stopped, match=f"step {steps} of 2"):
        stage.execute(tmp_path, stop_requested=lambda: len(history(tmp_path / kind)) == steps)
    stage.execute(tmp_path)
    assert fingerprint(tmp_path / kind) == fingerprint(x3d / kind)
    state = final_state(tmp_path / kind)["method"]
    averages = [key for key in state if key.startswith("average.")]
    assert bool(averages) == (kind == "images")
    moved = [key for key in averages if not torch.equal(state[key], state[key.removeprefix("average.")])]
    assert len(moved) > len(averages) / 2 or kind == "videos"


def test_the_average_is_what_is_handed_on(x3d: Path) -> None:
    state = final_state(x3d / "images")["method"]
    held = load_weights(artifact(x3d, "images")[0]).tensors
    assert held.keys() == {key for key in state if not key.startswith("average.")}
    assert all(torch.equal(tensor, state[f"average.{key}"]) for key, tensor in held.items())


def test_point_14_sparse_clips_one_at_a_time(x3d: Path, inputs: Bound, tmp_path: Path) -> None:
    """The last batch of the test has one video; the original loses its batch axis there."""
    data = VIDEOS | {"num_frames": 4, "sampling": SEGMENTS | {"sparse": True}}
    config = tuning("x3d_s", data=data, global_batch_size=2, bn_group_size=2)
    Stage(finetune.run, config, inputs | {"weights": artifact(x3d, "images")}, "sparse").execute(tmp_path)
    figures = Stage(
        multiview.run,
        viewing("x3d_s", data=data, batch_size=1),
        inputs | {"weights": weights_of(tmp_path, Stage(finetune.run, config, {}, "sparse"))},
        "views",
    ).execute(tmp_path)
    assert figures["test_videos"] == 3


def test_taps_are_spread_and_residuals_begin_at_nothing_where_asked(x3d: Path, inputs: Bound, tmp_path: Path) -> None:
    still = {"base_lr": 0.0, "weight_decay": 0.0}
    bound = inputs | {"weights": artifact(x3d, "images")}
    Stage(finetune.run, tuning("x3d_s", taps="spread", optim=still), bound, "spread").execute(tmp_path)
    before = load_weights(artifact(x3d, "images")[0]).part("backbone")["layer1.0.conv2.conv.weight"]
    after = load_weights(artifact(tmp_path, "spread")[0]).part("backbone")["layer1.0.conv2.conv.weight"]
    torch.testing.assert_close(after[:, :, 0], before[:, :, 1] / 9)
    torch.testing.assert_close(after[:, :, 1], before[:, :, 1] / 3)
    Stage(finetune.run, tuning("x3d_s", zero_init_residual=True, optim=still), inputs, "zero").execute(tmp_path)
    assert not load_weights(artifact(tmp_path, "zero")[0]).part("backbone")["layer1.0.conv3.bn.weight"].any()


def test_starts_that_would_change_nothing_are_refused(x3d: Path, inputs: Bound, tmp_path: Path) -> None:
    bound = inputs | {"weights": artifact(x3d, "images")}
    with pytest.raises(ConfigError, match=r"zero_init_residual is true and backbone\.name is tiny"):
        tuning("x3d_s", zero_init_residual=True, drop_path=0.0, backbone={"name": "tiny"})
    with pytest.raises(ConfigError, match=r"zero_init_residual is true and weights are bound.*or bind none"):
        Stage(finetune.run, tuning("x3d_s", zero_init_residual=True), bound, "zero").execute(tmp_path)
    with pytest.raises(ConfigError, match=r"taps is spread.*bind some to `weights`"):
        Stage(finetune.run, tuning("x3d_s", taps="spread"), inputs, "spread").execute(tmp_path)
    frames = transforming(taps="spread")
    with pytest.raises(StageError, match=r"VideoTransformer has no kernels of 3 frames.*set taps to keep"):
        start_residuals_and_taps(frames, build_backbone(frames.backbone))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": {"name": "csn50", "sts": True}}, "backbone.sts is true"),
        ({"data": VIDEOS | {"num_frames": 8}}, "an image is a clip of one frame"),
        ({"compat_frozen_stem": True}, "set it to false"),
        ({"backbone": {"name": "mvit_b"}}, r"backbone\.num_frames is 16 and data\.num_frames is 1"),
        ({"global_batch_size": 5, "bn_group_size": 5}, "take 4 or 6"),
        ({"global_batch_size": 6}, "not a multiple of bn_group_size"),
        ({"test_shares": []}, "give at least one"),
        ({"backbone": {"name": "s3d"}}, r"drop_path is 0\.2.*without branches to drop"),
        ({"schedule": {"name": "warm_epoch_cosine", "warmup_epochs": 5}}, "leave at least one epoch"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        imaging("csn50", **changes)


def test_sts_on_single_frames_and_unclear_averages_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"set backbone\.sts to false"):
        tuning("csn50", data=VIDEOS | {"num_frames": 1})
    with pytest.raises(ConfigError, match="set scores to mean"):
        viewing("csn50", average_clips="score", scores="max")
    with pytest.raises(ConfigError, match=r"num_clips is 0.*such as 10"):
        viewing("csn50", average_clips="none", test_view={"num_clips": 0})


def test_a_frozen_stem_stays_as_it_was_drawn(inputs: Bound, tmp_path: Path) -> None:
    config = imaging("r2plus1d34", compat_frozen_stem=True, ema_decay=None)
    stem = image_pretrain._method(config, 2).backbone.state_dict()
    Stage(image_pretrain.run, replace(config, epochs=1), inputs, "frozen").execute(tmp_path, Run)
    held = load_weights(artifact(tmp_path, "frozen")[0]).part("backbone")
    same = {key for key in held if torch.equal(held[key], stem[key])}
    assert {key for key in held if key.startswith("conv1.")} <= same
    assert not any(key.endswith("conv_s.weight") and not key.startswith("conv1.") for key in same)
