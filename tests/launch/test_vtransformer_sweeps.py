"""The sweeps of TimeSformer, ViViT and MaskFeat: the graph, and the published values (card, sections 2 and 6)."""

from pathlib import Path

import pytest

from tests.lines import SMOKE, folder_of, run_here
from tests.planning import nested, plan_of
from vssl.artifacts import read_json
from vssl.config import ConfigError

SCALES = ("paper", "demo", "smoke")
# how the two generations of the public code scale frames for testing
GEN_1 = {"rounding": "torchvision", "resampling": "bilinear"}
GEN_2 = {"rounding": "torchvision", "resampling": "bicubic"}


def test_timesformer_has_the_published_values() -> None:
    plan = plan_of("sweep=timesformer_k600")
    expected = {
        "epochs": 15, "global_batch_size": 64, "seed": 0, "dropout": 0.0, "mixup": None, "label_smoothing": 0.0,
        "drop_path": 0.1, "layer_decay": 1.0, "head_std": 0.02,
        "backbone": {
            "name": "timesformer", "attention": "divided_space_time", "embed_dim": 768, "depth": 12, "num_heads": 12,
            "patch_size": 16, "image_size": 224, "num_frames": 8, "time_init": "zero", "pooled": "class",
        },
        "data": {
            "num_frames": 8, "frame_stride": 32, "crop_size": 224, "sampling": {"name": "linspace"},
            "statistics": "half", "decode_short_side": 0,
        },
        "test_view": GEN_1 | {"num_clips": 1, "num_crops": 1, "short_side": 256},
        "augment": {"name": "short-side", "short_side": [256, 320], "flip_probability": 0.5, "jitter_probability": 0.0},
        "optim": {
            "name": "sgd", "base_lr": 0.005, "lr_of_batch": None, "momentum": 0.9, "nesterov": True,
            "weight_decay": 1e-4, "decay_1d": True, "clip_norm": None,
        },
        "schedule": {"name": "milestones", "milestones": [5, 10], "gamma": 0.1},
        "runtime": {"amp": "off", "workers": 4},
    }  # fmt: skip
    assert nested(plan["finetune"].config, expected) == expected
    assert plan["image"].config["backbone"]["attention"] == "space_only"
    test = {
        "test_view": GEN_1 | {"num_clips": 1, "num_crops": 3, "short_side": 224},
        "data": {"num_frames": 8, "frame_stride": 32},
    }
    assert nested(plan["threecrop"].config, test) == test


LATER = {
    "timesformer": {
        "backbone": {"attention": "divided_space_time", "time_init": "zero"},
        "data": {"num_frames": 8, "frame_stride": 32},
    },
    "vivit": {
        "backbone": {"attention": "fact_encoder", "tubelet_size": 2, "temporal_depth": 4, "time_init": "normal"},
        "data": {"num_frames": 16, "frame_stride": 16},
    },
}


@pytest.mark.parametrize("net", LATER)
def test_later_runs_have_the_published_values(net: str) -> None:
    plan = plan_of("sweep=vtransformer_k400")
    expected = {
        "epochs": 30, "global_batch_size": 64, "drop_path": 0.1, "head_std": 0.02,
        "image_init": {"patch_embed": "average", "temporal": "copy"}, "backbone": {"name": net},
        "data": {"statistics": "kinetics", "decode_short_side": 0, "dataset": {"name": "kinetics400"}},
        "augment": {"name": "random-resized-crop", "crop_area": [0.08, 1.0], "jitter": [0.4, 0.4, 0.4, 0.0]},
        "test_view": GEN_2 | {"num_clips": 1, "num_crops": 1, "short_side": 256},
        "optim": {
            "name": "sgd", "base_lr": 0.005, "lr_of_batch": 256, "momentum": 0.9, "nesterov": True,
            "weight_decay": 1e-4, "decay_1d": False,
        },
        "schedule": {"name": "epoch_end_cosine", "final_lr": 1e-6, "warmup_epochs": 5},
        "runtime": {"amp": "fp16"},
    }  # fmt: skip
    for values in (expected, LATER[net]):
        assert nested(plan[f"finetune-{net}"].config, values) == values
    test = {
        "data": LATER[net]["data"] | {"statistics": "kinetics"},
        "test_view": GEN_2 | {"num_clips": 1, "num_crops": 3, "short_side": 224},
    }
    assert nested(plan[f"threecrop-{net}"].config, test) == test
    assert plan[f"finetune-{net}"].parents == ("image",)


def test_vivit_is_trained_on_kinetics_600_as_on_kinetics_400() -> None:
    one, other = (plan_of(f"sweep={name}") for name in ("vivit_k600", "vtransformer_k400"))
    different = {key for key, value in one["finetune"].config.items() if value != other["finetune-vivit"].config[key]}
    assert different == {"data"}  # the set alone
    assert one["finetune"].config["data"]["dataset"]["name"] == "kinetics600"


def test_maskfeat_has_the_published_values() -> None:
    plan = plan_of("sweep=maskfeat_k400")
    adamw = {"name": "adamw", "lr_of_batch": 256, "weight_decay": 0.05, "weight_decay_end": None, "decay_1d": False}
    clips = {
        "num_frames": 16, "frame_stride": 4, "crop_size": 224, "statistics": "kinetics", "decode_short_side": 0,
    }  # fmt: skip
    expected = {
        "epochs": 300, "global_batch_size": 128, "method": {"mask_ratio": 0.4, "masking": "original"}, "data": clips,
        "backbone": {"name": "mvit_b", "width": 96},
        "augment": {"name": "random-resized-crop", "crop_area": [0.5, 1.0], "jitter_probability": 0.0},
        "optim": adamw | {"base_lr": 8e-4},
        "schedule": {"name": "epoch_end_cosine", "final_lr": 0.0, "warmup_epochs": 5},
    }  # fmt: skip
    assert nested(plan["pretrain"].config, expected) == expected
    expected = {
        "epochs": 200, "global_batch_size": 64, "layer_decay": 0.75, "label_smoothing": 0.1, "data": clips,
        "mixup": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "probability": 1.0, "cutmix_probability": 0.5},
        "head_std": 0.02, "test_view": GEN_2 | {"num_clips": 1, "num_crops": 1, "short_side": 256},
        "augment": {"rand_augment": {"operations": 2, "magnitude": 9.0, "space": "torchvision"}},
        "optim": adamw | {"base_lr": 0.005},
        "schedule": {"name": "epoch_end_cosine", "final_lr": 1e-6, "warmup_epochs": 5},
    }  # fmt: skip
    assert nested(plan["finetune"].config, expected) == expected
    assert plan["linear"].config["head"] == "plain"


def test_the_published_ablation_is_one_grid() -> None:
    """Frame interval, random crops and flips, batch: each row changes one of them."""
    plan = plan_of("sweep=timesformer_ablation")
    rows = [stage.config for stage in plan if stage.template == "finetune"]
    found = [(c["data"]["frame_stride"], c["augment"]["flip_probability"] > 0, c["global_batch_size"]) for c in rows]
    assert found == [
        (4, False, 128), (16, False, 128), (16, True, 128), (16, True, 64), (24, True, 64), (32, True, 64),
    ]  # fmt: skip
    assert [c["augment"]["short_side"] for c in rows[:3]] == [[224, 224], [224, 224], [256, 320]]
    assert all(c["optim"] == rows[0]["optim"] for c in rows)
    assert len([stage for stage in plan if stage.template == "image"]) == 1


@pytest.mark.parametrize("scale", ["demo", "smoke"])
def test_rows_of_the_ablation_stay_apart_at_every_scale(scale: str) -> None:
    plan = plan_of("sweep=timesformer_ablation", f"scale={scale}")
    rows = [stage.config for stage in plan if stage.template == "finetune"]
    found = [
        (c["data"]["frame_stride"], len(set(c["augment"]["short_side"])) > 1, c["global_batch_size"]) for c in rows
    ]
    batch = found[-1][2]
    assert found == [
        (1, False, 2 * batch), (2, False, 2 * batch), (2, True, 2 * batch), (2, True, batch), (3, True, batch),
        (4, True, batch),
    ]  # fmt: skip


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("sweep", "edges"),
    [
        ("timesformer_k600", {"image": (), "finetune": ("image",), "threecrop": ("finetune",)}),
        ("vivit_k600", {"image": (), "finetune": ("image",), "threecrop": ("finetune",)}),
        ("maskfeat_k400", {"pretrain": (), "finetune": ("pretrain",), "linear": ("pretrain",)}),
    ],
)
def test_what_follows_what_at_every_scale(sweep: str, edges: dict[str, tuple[str, ...]], scale: str) -> None:
    plan = plan_of(f"sweep={sweep}", f"scale={scale}")
    assert {stage.name: stage.parents for stage in plan} == edges
    if scale != "paper":
        assert all(stage.resources.gpus_per_node == 0 for stage in plan)
        assert not any(stage.config.get("augment", {}).get("flip_probability") for stage in plan)


@pytest.mark.parametrize("scale", SCALES)
def test_starts_are_compared_over_seeds(scale: str) -> None:
    plan = plan_of("sweep=vtransformer_ablation", f"scale={scale}")
    for seed in range(3):
        assert plan[f"finetune-mvit-maskfeat.{seed}"].parents == (f"pretrain.{seed}",)
        assert plan[f"linear-mvit-maskfeat.{seed}"].parents == (f"pretrain.{seed}",)
        assert plan[f"finetune-timesformer-image.{seed}"].parents == (f"image.{seed}",)
        for net, start in (("mvit", "maskfeat"), ("timesformer", "image")):
            scratch, started = (plan[f"finetune-{net}-{one}.{seed}"].config for one in ("scratch", start))
            assert scratch == started, "they differ in what they start from alone"
    assert len(plan["mean-finetune-mvit-scratch"].parents) == 3


def test_another_image_network_than_the_video_network_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`finetune` has backbone .* but reads the weights of `image`"):
        plan_of("sweep=timesformer_k600", "stages.image.backbone.embed_dim=384", "stages.image.backbone.num_heads=6")


def test_smoke_runs_compare_starts_and_test_in_three_crops(tmp_path: Path) -> None:
    """Every kind of stage of the five sweeps, once: those of one seed, and ViViT's."""
    said = run_here("sweep=vtransformer_ablation", *SMOKE, "grid.all.seed=[0]", f"root={tmp_path}")
    assert said.code == 0, said.out + said.err
    for start in ("mvit-scratch", "mvit-maskfeat", "timesformer-scratch", "timesformer-image"):
        folder = folder_of(tmp_path, "vtransformer_ablation", f"mean-finetune-{start}")
        metrics = read_json(folder.artifacts / "metrics")
        assert metrics is not None
        assert 0 <= metrics["top1_mean"] <= 1
    said = run_here("sweep=vivit_k600", *SMOKE, f"root={tmp_path}")
    assert said.code == 0, said.out + said.err
    trained, tested = (
        read_json(folder_of(tmp_path, "vivit_k600", stage).artifacts / "metrics") for stage in ("finetune", "threecrop")
    )
    assert trained is not None
    assert tested is not None
    assert trained["test_videos"] == tested["test_videos"] == 6
