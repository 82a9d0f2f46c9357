"""The sweeps of STS: the graph, and every value of the published settings (card, section 3)."""

from pathlib import Path
from typing import Any

import pytest
import torch

from launch.plan import Plan
from tests.lines import SMOKE, folder_of, run_here
from tests.planning import nested, plan_of
from vssl.artifacts import Artifact, StageFolder, read_json
from vssl.config import ConfigError, build
from vssl.nn.batchnorm import norm_layer
from vssl.nn.heads import fine_tuning_head
from vssl.run import Run
from vssl.stages import image_pretrain
from vssl.stages.finetune_config import FinetuneConfig
from vssl.stages.image_pretrain_config import ImagePretrainConfig
from vssl.stages.sources import header, initial_backbone, stream_weights
from vssl.stages.transfer import take_hidden_layer
from vssl.weights import save_weights

NETS = ("csn50", "r2plus1d34", "slowfast50_4x16", "slowfast50_8x8", "slowonly50", "x3d_s")
SPARSE = tuple(net for net in NETS if net != "slowfast50_8x8")
SWEEPS = {"k400": NETS, "sthv2": SPARSE}
# network -> frames, stride, training side, test side, videos a step, of a group, rate, epochs, batches of precise BN
K400: dict[str, tuple[Any, ...]] = {
    "csn50": (32, 2, 224, 256, 64, 16, 0.01, 50, 0),
    "r2plus1d34": (8, 8, 224, 256, 64, 16, 0.01, 50, 200),
    "slowfast50_4x16": (32, 2, 224, 256, 64, 16, 0.01, 50, 200),
    "slowfast50_8x8": (32, 2, 224, 256, 64, 16, 0.01, 50, 200),
    "slowonly50": (8, 8, 224, 256, 64, 16, 0.02, 50, 200),
    "x3d_s": (13, 6, 160, 192, 128, 32, 0.02, 100, 200),
}
PLANS = {sweep: plan_of(f"sweep=sts_{sweep}") for sweep in SWEEPS}


@pytest.mark.parametrize("net", NETS)
def test_images_have_the_published_values(net: str) -> None:
    expected = {
        "epochs": 300, "global_batch_size": 2048, "repeats": 3, "loss": "binary", "label_smoothing": 0.0,
        "drop_path": 0.05, "bn_group_size": 256, "test_shares": [0.875, 0.95], "ema_decay": None,
        # what the public code does by oversight is an option that no recipe takes
        "drop_path_on": "branch", "compat_frozen_stem": False,
        "mixup": {"mixup_alpha": 0.1, "cutmix_alpha": 1.0, "probability": 1.0, "cutmix_probability": 0.5},
        "backbone": {"name": net, "sts": False, "sts_aligned": False},
        "data": {
            "num_frames": 1, "crop_size": 224, "test_split": "val", "statistics": "imagenet",
            "dataset": {"name": "imagenet"}, "sampling": {"name": "segments", "sparse": False},
        },
        "augment": {
            "crop_area": [0.08, 1.0], "flip_probability": 0.5, "jitter_probability": 0.0,
            "rand_augment": {
                "operations": 2, "magnitude": 7.0, "magnitude_std": 0.5, "probability": 0.5, "space": "increasing",
            },
        },
        "optim": {
            "name": "lamb", "base_lr": 0.005, "betas": [0.9, 0.999], "eps": 1e-6, "weight_decay": 0.02,
            "clip_norm": 1.0,
        },
        "schedule": {"name": "warm_epoch_cosine", "final_lr": 1e-6, "warmup_epochs": 5, "warmup_start_lr": 5e-6},
        "runtime": {"amp": "fp16", "workers": 8},
    }  # fmt: skip
    for sweep in SWEEPS if net in SPARSE else ("k400",):
        config = PLANS[sweep][f"images-{net}"].config
        assert nested(config, expected) == expected
        assert config["augment"]["crop_aspect"] == pytest.approx([3 / 4, 4 / 3])


def fine_tuning(test_side: int, flip: float, rate: float, *, decay_1d: bool, **own: Any) -> dict[str, Any]:
    """What a fine-tuning has on both datasets, and its own values."""
    common = {
        "dropout": 0.5, "mixup": None, "label_smoothing": 0.0, "drop_path": 0.0,
        "zero_init_residual": False, "backbone_lr_ratio": 1.0, "bn": "local", "compat_batch_flip": False,
        "augment": {
            "name": "resized-crop", "short_side": test_side, "crop_area": [0.08, 1.0], "flip_probability": flip,
        },
        "test_view": {"num_clips": 1, "num_crops": 1, "short_side": test_side}, "test_crops": "centre",
        "optim": {
            "name": "sgd", "base_lr": rate, "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4,
            "decay_1d": decay_1d, "larc": None, "clip_norm": 40.0, "clip_by": "all",
        },
        "schedule": {"name": "epoch_cosine", "final_lr": 0.0, "warmup_epochs": 5, "warmup_ratio": 0.1},
        "runtime": {"amp": "fp16", "workers": 8},
    }  # fmt: skip
    return common | own


def assert_published(sweep: str, net: str, expected: dict[str, Any], views: dict[str, Any]) -> None:
    """Both fine-tunings of a network, with STS convolutions and with plain ones, and the tests of both."""
    expected_test = {
        "data": expected["data"], "test_view": views, "test_crops": "centre", "average_clips": "prob", "scores": "mean",
        "batch_size": 10, "runtime": {"amp": "fp16", "workers": 8},
    }  # fmt: skip
    for conv in ("sts", "plain"):
        config = PLANS[sweep][f"finetune-{conv}-{net}"].config
        assert nested(config, expected) == expected
        network = {"name": net, "sts": conv == "sts", "sts_aligned": False}
        assert nested(config["backbone"], network) == network
        tested = PLANS[sweep][f"test-{conv}-{net}"].config
        assert nested(tested, expected_test) == expected_test
        assert tested["backbone"] == config["backbone"]


@pytest.mark.parametrize("net", NETS)
def test_kinetics_has_the_published_values(net: str) -> None:
    frames, stride, side, test_side, batch, group, rate, epochs, precise = K400[net]
    clips = {
        "num_frames": frames, "frame_stride": stride, "crop_size": side, "train_split": "train", "test_split": "val",
        "dataset": {"name": "kinetics400"}, "sampling": {"name": "segments", "sparse": False},
    }  # fmt: skip
    expected = fine_tuning(
        test_side, 0.5, rate, decay_1d=net != "x3d_s", epochs=epochs, global_batch_size=batch, bn_group_size=group,
        precise_bn_batches=precise, taps="keep", data=clips,
    )  # fmt: skip
    views = {"num_clips": 10, "num_crops": 3, "short_side": test_side, "crop_size": test_side}
    assert_published("k400", net, expected, views)


@pytest.mark.parametrize("net", SPARSE)
def test_something_something_has_the_published_values(net: str) -> None:
    clips = {
        "num_frames": 32 if "fast" in net else 8, "frame_stride": 1, "crop_size": 224, "train_split": "train",
        "test_split": "val", "dataset": {"name": "something_something_v2"},
        "sampling": {"name": "segments", "sparse": True},
    }  # fmt: skip
    expected = fine_tuning(
        256, 0.0, 0.1, decay_1d=True, epochs=50, global_batch_size=64, bn_group_size=8, precise_bn_batches=0,
        taps="spread" if net == "slowonly50" else "keep", data=clips,
    )  # fmt: skip
    views = {"num_clips": 1, "num_crops": 3, "short_side": 256, "crop_size": 256}
    assert_published("sthv2", net, expected, views)


@pytest.mark.parametrize("scale", ["paper", "demo", "smoke"])
@pytest.mark.parametrize("sweep", SWEEPS)
def test_one_pretraining_per_network_feeds_all_its_children(sweep: str, scale: str) -> None:
    plan: Plan = plan_of(f"sweep=sts_{sweep}", f"scale={scale}")
    assert len([*plan]) == 5 * len(SWEEPS[sweep])
    for net in SWEEPS[sweep]:
        assert plan[f"images-{net}"].parents == ()
        for conv in ("sts", "plain"):
            assert plan[f"finetune-{conv}-{net}"].parents == (f"images-{net}",)
            assert plan[f"test-{conv}-{net}"].parents == (f"finetune-{conv}-{net}",)
            assert plan[f"finetune-{conv}-{net}"].config["backbone"]["name"] == net  # at every scale
    if scale == "paper":
        for net in SPARSE:
            assert plan[f"images-{net}"].stage_id == PLANS["k400"][f"images-{net}"].stage_id
    else:
        for stage in plan:
            assert stage.resources.gpus_per_node == 0
            if "finetune" in stage.name:
                assert stage.config["augment"]["flip_probability"] == 0
                assert stage.config["data"]["crop_size"] % 32 == 0


@pytest.mark.parametrize("scale", ["paper", "demo", "smoke"])
def test_the_ablation_compares_starts_over_seeds(scale: str) -> None:
    plan = plan_of("sweep=sts_ablation", f"scale={scale}")
    assert len([*plan]) == 3 * 7 + 3
    for seed in range(3):
        assert plan[f"finetune-scratch.{seed}"].parents == ()
        assert plan[f"finetune-plain.{seed}"].parents == plan[f"finetune-sts.{seed}"].parents == (f"images.{seed}",)
    for start in ("scratch", "plain", "sts"):
        assert plan[f"finetune-{start}.0"].config["zero_init_residual"] == (start == "scratch")  # as published
        assert plan[f"mean-{start}"].parents == tuple(f"test-{start}.{seed}" for seed in range(3))
    if scale == "paper":
        assert plan["images.0"].stage_id == PLANS["k400"]["images-slowonly50"].stage_id
        assert plan["finetune-sts.0"].stage_id == PLANS["k400"]["finetune-sts-slowonly50"].stage_id


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("finetune-sts.zero_init_residual=true", r"`finetune-sts`: zero_init_residual is true and weights are bound"),
        ("finetune-scratch.taps=spread", r"`finetune-scratch`: taps is spread.*bind some to `weights`, or set taps"),
        ("finetune-plain.backbone.sts_aligned=true", r"`finetune-plain`.*sts_aligned is true and sts is false"),
    ],
)
def test_what_would_change_nothing_is_refused_before_anything_is_queued(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of("sweep=sts_ablation", f"stages.{setting}")


TAKEN = "took its backbone and head.hidden.weight; left head.linear.weight, head.linear.bias, head.hidden.bias"


@pytest.mark.parametrize("net", NETS)
def test_image_weights_fill_each_child_but_for_the_classifier(net: str, tmp_path: Path) -> None:
    """Of the sweep at smoke scale: nothing is missing and nothing unexpected; of a classifier only what is to be."""
    plan, run = plan_of("sweep=sts_k400", "scale=smoke"), Run(StageFolder(tmp_path))
    images = build(ImagePretrainConfig, plan[f"images-{net}"].config)
    about = header("image_pretrain", run, backbone=images.backbone, modality="rgb")
    path = save_weights(run, "weights", about, image_pretrain._method(images, 3).weights())
    artifact = Artifact(type="weights", path=path, digest="", origin=f"images-{net}")
    for conv in ("sts", "plain"):
        config = build(FinetuneConfig, plan[f"finetune-{conv}-{net}"].config)
        weights = stream_weights(artifact, config.backbone, "rgb", run)
        backbone = initial_backbone(config, weights, run, norm_layer(config.bn_group_size))
        held, filled = weights.part("backbone"), backbone.state_dict()
        assert held.keys() == filled.keys()
        assert all(torch.equal(filled[name], tensor) for name, tensor in held.items())
        head = fine_tuning_head(backbone, 3)  # as many classes as the images have
        before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
        take_hidden_layer(head, weights, run)
        taken = [name for name, tensor in head.state_dict().items() if not torch.equal(tensor, before[name])]
        assert taken == (["hidden.weight"] if net == "x3d_s" else [])


def test_a_smoke_run_goes_from_images_to_sparse_clips_to_views(tmp_path: Path) -> None:
    """The smallest network, whose classifier is the one that something is taken from."""
    names = ("images-x3d_s", "finetune-sts-x3d_s", "test-sts-x3d_s")
    said = run_here("sweep=sts_sthv2", *SMOKE, f"only=[{','.join(names)}]", f"root={tmp_path}")
    assert said.code == 0, said.out + said.err
    assert said.stages("done in") == sorted(names)
    tuned, tested = (folder_of(tmp_path, "sts_sthv2", name) for name in names[1:])
    (log,) = tuned.logs.glob("*.log")
    assert TAKEN in log.read_text()
    metrics = read_json(tested.artifacts / "metrics")
    assert metrics is not None
    assert metrics["test_videos"] == 6
