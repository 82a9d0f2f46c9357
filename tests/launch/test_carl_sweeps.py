"""The sweeps of CARL: the graph, every value of the published table (card, section 3), and a smoke run of one."""

from pathlib import Path
from typing import Any

import pytest

from launch.plan import Plan
from launch.planning import planner
from launch.report import untrained_twins
from tests.lines import run_here
from tests.planning import nested, plan_of, plan_text
from vssl.artifacts import read_json
from vssl.config import ConfigError
from vssl.data.decode import inspect

SHARED = {
    "seed": 1,
    "backbone": {"name": "frame_resnet50", "layers": 4},
    "optim": {"name": "adam", "base_lr": 1e-4, "betas": [0.9, 0.999], "weight_decay": 1e-5, "clip_norm": 10.0},
    "schedule": {"name": "open_cosine", "final_lr": 0.0, "warmup_epochs": 0},
    "runtime": {"amp": "fp16", "workers": 4},
}
EMBEDDER = {
    "name": "transformer", "dim": 256, "heads": 8, "ff_dim": 1024, "fc_dims": [512, 512], "embedding_dim": 128,
    "dropout": 0.1, "positions": True,
}  # fmt: skip
METHOD = {
    "name": "carl", "objective": "scl", "frozen_layers": 3, "block": 40, "proj_dim": 128, "temperature": 0.1,
    "variance": 10.0, "masked_weight": 1e-6, "zero_rows": True,
}  # fmt: skip
VIEWS = {
    "name": "sequence", "num_views": 2, "crop_area": [0.8, 1.0], "crop_aspect": [0.75, 1.3333],
    "flip_probability": 0.5, "jitter_probability": 0.8, "jitter": [0.8, 0.8, 0.8, 0.2], "grey_probability": 0.2,
    "blur_sigma": [0.1, 2.0],
}  # fmt: skip
WEAK_VIEWS = {
    "num_views": 1, "crop_area": None, "jitter_probability": 1.0, "jitter": [0.1255, 0.5, 0.0, 0.0],
    "blur_probability": 0.0, "grey_probability": 0.0,
}  # fmt: skip
# sweep -> the column of the table, under its own words
SINGLE: dict[str, Any] = {"per_gpu": 1, "negatives": "single_noself", "overlap": 0.2}
TABLE: dict[str, dict[str, Any]] = {
    "pouring": SINGLE | {"frames": 240, "layers": 2, "epochs": 500},
    "pennaction": SINGLE | {"frames": 80, "layers": 3, "epochs": 300},
    "finegym": SINGLE | {"frames": 240, "layers": 3, "epochs": 300},
    "k400_pretrain": {
        "frames": 80, "layers": 2, "epochs": 10, "per_gpu": 2, "negatives": "batch_noself", "overlap": 1.0,
    },
}  # fmt: skip


def paper(sweep: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> Plan:
    """A plan at paper scale where the file of ImageNet weights is."""
    monkeypatch.setattr(planner, "_digest_of_file", lambda path: f"{len(str(path)):064d}")
    return plan_of(f"sweep=carl_{sweep}", *words)


@pytest.mark.parametrize("sweep", TABLE)
def test_pretraining_has_the_published_values(sweep: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row, plan = TABLE[sweep], paper(sweep, monkeypatch)
    config = plan["pretrain-k400" if sweep == "k400_pretrain" else "pretrain"].config
    expected = SHARED | {
        "epochs": row["epochs"],
        "global_batch_size": 4 * row["per_gpu"],  # on 4 GPUs
        "method": METHOD
        | {
            "embedder": EMBEDDER | {"layers": row["layers"]},
            "negatives": row["negatives"],
            "videos_per_loss": row["per_gpu"],
            "initial": "imagenet",
        },
        "data": {
            "num_frames": row["frames"],
            "crop_size": 224,
            "statistics": "imagenet",
            "sampling": {
                "name": "long", "frames": "stretched", "max_rate": 1.5, "min_overlap": row["overlap"],
                "crops_in_time": sweep == "finegym", "num_context_frames": 1,
            },
        },
        "augment": VIEWS | {"blur_probability": 0.0 if sweep == "finegym" else 0.5},
    }  # fmt: skip
    assert nested(config, expected) == expected


def test_evaluations_have_the_published_values(monkeypatch: pytest.MonkeyPatch) -> None:
    common = {"centre_crop": 224, "unit_embeddings": True, "ks": [5, 10, 15]}
    expected = {
        "pouring": common | {"stride": 5, "fractions": [0.1, 0.5, 1.0], "by_action": False},
        "pennaction": common | {"stride": 2, "fractions": [1.0], "by_action": True},
        "finegym": common
        | {
            "tasks": ["probe"], "fractions": [0.1, 0.5, 1.0], "probe_lr": 50.0, "probe_epochs": 100,
            "probe_batch_size": 10,
        },
    }  # fmt: skip
    for sweep, part in expected.items():
        plan, row = paper(sweep, monkeypatch), TABLE[sweep]
        for name in ("align", "align-untrained"):
            config = plan[name].config
            assert nested(config, part) == part
            assert config["embedder"] == EMBEDDER | {"layers": row["layers"]}
            assert config["data"]["num_frames"] == row["frames"]
            assert config["data"]["test_split"] == "val"
    k400 = paper("k400_pretrain", monkeypatch)["align-k400"].config
    assert (k400["actions"], k400["by_action"]) == (["baseball_pitch"], True)


def test_finegym_is_embedded_in_more_than_the_hour_of_a_retrieval(monkeypatch: pytest.MonkeyPatch) -> None:
    for sweep, names in {
        "finegym": ["align", "align-untrained"],
        "finegym_baselines": ["align-conv", "align-conv_tcc", "align-supervised"],
        "k400_pretrain": ["align-finegym"],
    }.items():
        plan = paper(sweep, monkeypatch)
        assert [plan[name].resources.timeout_min for name in names] == [480] * len(names)


def test_weights_of_images_are_an_input_at_paper_scale_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"/data/pretrained/.*cannot be read.*absolute path"):
        plan_of("sweep=carl_pouring")
    plan = paper("pouring", monkeypatch)
    assert [one.source for one in plan["pretrain"].inputs["initial"]] == ["file:/data/pretrained/resnet50-0676ba61.pth"]
    for scale in ("demo", "smoke"):
        assert "initial" not in plan_of("sweep=carl_pouring", f"scale={scale}")["pretrain"].inputs
    none = ("stages.pretrain.method.initial=none", "stages.align-untrained.initial=none")
    without = plan_of("sweep=carl_pouring", *none)
    assert "initial" not in without["pretrain"].inputs


def test_trained_networks_are_evaluated_without_a_file_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """And beside the network that they began as, though that one reads the file."""
    for sweep in ("pouring", "pennaction", "finegym"):
        plan = paper(sweep, monkeypatch)
        assert set(plan["align"].inputs) == {"dataset", "weights"}
        assert set(plan["align-untrained"].inputs) == {"dataset", "initial"}
        assert untrained_twins(plan) == {"align": "align-untrained"}
    for stage in paper("k400_pretrain", monkeypatch):
        assert ("initial" in stage.inputs) == (stage.kind == "pretrain")


def test_an_untrained_network_needs_its_file(tmp_path: Path) -> None:
    text = "data: pouring\nstages:\n  - {name: align, kind: alignment, config: [recipe=carl_align_pouring]}\n"
    with pytest.raises(ConfigError, match="`align` needs the input `initial`"):
        plan_text(tmp_path, text)


@pytest.mark.parametrize("scale", ["paper", "demo", "smoke"])
def test_what_follows_what_at_every_scale(scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for sweep in ("pouring", "pennaction", "finegym"):
        plan = paper(sweep, monkeypatch, f"scale={scale}")
        assert plan["align"].parents == ("pretrain",)
        assert plan["align-untrained"].parents == ()
        seen = {key: plan["align"].config[key] for key in plan["align"].config if key != "seed"}
        assert seen == {key: plan["align-untrained"].config[key] for key in seen}
    plan = paper("k400_pretrain", monkeypatch, f"scale={scale}")
    assert plan["align-k400"].parents == ("pretrain-k400",)
    for name in ("pouring", "pennaction", "finegym"):
        after = plan[f"pretrain-{name}"]
        assert after.config["method"]["embedder"]["layers"] == 2
        assert after.config["method"]["initial"] == "carl"
        assert after.parents == ("pretrain-k400",)
        assert plan[f"align-{name}"].parents == (f"pretrain-{name}",)


@pytest.mark.parametrize("scale", ["paper", "demo", "smoke"])
def test_the_ablation_compares_objectives_over_seeds(scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = paper("ablation", monkeypatch, f"scale={scale}")
    lanes = [stage.name for stage in plan]
    assert len(lanes) == 2 * (3 * 5 + 3)
    for positions in ("true", "false"):
        for seed in range(3):
            for objective in ("carl", "tcc"):
                trained = f"pretrain-{objective}-positions-{positions}.{seed}"
                assert plan[f"align-{objective}-positions-{positions}.{seed}"].parents == (trained,)
                assert plan[trained].config["method"]["embedder"]["positions"] == (positions == "true")
            untrained = plan[f"align-untrained-positions-{positions}.{seed}"]
            assert untrained.parents == ()
            assert untrained.config["embedder"]["positions"] == (positions == "true")
        for objective in ("untrained", "tcc", "carl"):
            of = f"{objective}-positions-{positions}"
            assert plan[f"mean-{of}"].parents == tuple(f"align-{of}.{seed}" for seed in range(3))
    carl, tcc = (plan[f"pretrain-{objective}-positions-true.0"].config for objective in ("carl", "tcc"))
    assert (tcc["method"]["objective"], tcc["method"]["videos_per_loss"], tcc["augment"]["num_views"]) == ("tcc", 2, 1)
    assert carl["method"]["embedder"] == tcc["method"]["embedder"]
    assert nested(tcc["augment"], WEAK_VIEWS) == WEAK_VIEWS  # at every scale
    seen = {"unit_embeddings": False, "centre_crop": None}  # as it learned: frames squeezed, embeddings of any length
    carl, tcc = (plan[f"align-{objective}-positions-true.0"].config for objective in ("carl", "tcc"))
    assert carl | seen == tcc
    assert nested(carl, seen) == {"unit_embeddings": True, "centre_crop": 224 if scale == "paper" else 0}


# recipe -> evaluation, objective, frames of a view, videos of a GPU, epochs, embedder, sampling, schedule, length 1
BASELINES = {
    "conv_pouring": ("conv_pouring", "scl", 40, 1, 500, "conv", "uniform", "open_cosine", True),
    "conv_penn_action": ("conv_penn_action", "scl", 20, 2, 300, "conv", "uniform", "open_cosine", True),
    "conv_finegym": ("conv_finegym", "scl", 40, 1, 100, "conv", "uniform", "open_cosine", True),
    "conv_tcc_pouring": ("conv_pouring", "tcc", 40, 2, 500, "conv", "uniform", "milestones", False),
    "conv_tcc_penn_action": ("conv_penn_action", "tcc", 20, 4, 300, "conv", "uniform", "milestones", False),
    "conv_tcc_finegym": ("conv_tcc_finegym", "tcc", 40, 2, 300, "conv", "uniform", "milestones", True),
    "conv_tcn_pouring": ("conv_pouring", "tcn", 40, 2, 500, "conv", "pairs", "milestones", True),
    "tcc_pouring": ("tcc_pouring", "tcc", 240, 2, 500, "transformer", "stretched", "open_cosine", False),
    "supervised_pouring": ("tcc_pouring", "supervised", 240, 2, 500, "transformer", "stretched", "open_cosine", False),
    "supervised_finegym": (
        "supervised_finegym", "supervised", 240, 2, 100, "transformer", "stretched", "open_cosine", False,
    ),
}  # fmt: skip
ALL_FRACTIONS = [0.1, 0.5, 1.0]
PROBE = {"tasks": ["probe"], "probe_epochs": 100, "probe_batch_size": 10}
EVALUATIONS: dict[str, dict[str, Any]] = {
    "conv_pouring": {"stride": 5, "by_action": False, "sequence": 25, "fractions": ALL_FRACTIONS},
    "conv_penn_action": {"stride": 2, "by_action": True, "sequence": 25, "fractions": ALL_FRACTIONS},
    "tcc_pouring": {"stride": 5, "by_action": False, "fractions": ALL_FRACTIONS},
    "conv_finegym": PROBE | {"probe_lr": 50.0, "sequence": 100, "fractions": ALL_FRACTIONS, "centre_crop": 224},
    "conv_tcc_finegym": PROBE | {"probe_lr": 50.0, "sequence": 100, "fractions": ALL_FRACTIONS, "centre_crop": None},
    "supervised_finegym": PROBE | {"probe_lr": 0.1, "sequence": 6000, "fractions": [1.0], "centre_crop": None},
}
SWEEP = """
data: {data}
stages:
  - {{name: pretrain, kind: pretrain, config: [recipe=carl_{recipe}, method.initial=none], output: carl}}
  - {{name: align, kind: alignment, config: [recipe=carl_align_{align}], inputs: {{weights: carl}}}}
"""


@pytest.mark.parametrize("scale", ["paper", "demo", "smoke"])
@pytest.mark.parametrize("recipe", BASELINES)
def test_what_carl_is_compared_with_has_the_published_values(recipe: str, scale: str, tmp_path: Path) -> None:
    align, objective, frames, videos, epochs, embedder, sampling, schedule, unit = BASELINES[recipe]
    (dataset,) = (name for name in ("pouring", "penn_action", "finegym") if recipe.endswith(name))
    data_name = "finegym99" if dataset == "finegym" else dataset
    plan = plan_text(tmp_path, SWEEP.format(recipe=recipe, align=align, data=data_name), f"scale={scale}")
    config, seen = plan["pretrain"].config, plan["align"].config
    method, data = config["method"], config["data"]
    assert (method["objective"], method["unit_embeddings"]) == (objective, unit)
    assert (method["embedder"]["name"], data["sampling"]["frames"]) == (embedder, sampling)
    assert config["schedule"]["name"] == schedule
    assert config["augment"]["num_views"] == (2 if objective == "scl" else 1)
    assert objective == "scl" or nested(config["augment"], WEAK_VIEWS) == WEAK_VIEWS
    assert seen["backbone"] == config["backbone"]
    assert seen["embedder"] == method["embedder"]
    assert seen["data"]["num_frames"] == data["num_frames"]
    assert dataset != "finegym" or seen["unit_embeddings"] == unit
    for of in (data, seen["data"]):
        context = (of["sampling"]["num_context_frames"], of["sampling"]["context_stride"])
        assert context == ((2, 15) if embedder == "conv" else (1, 15))
    if scale == "paper":
        assert (data["num_frames"], config["epochs"]) == (frames, epochs)
        assert (config["global_batch_size"], method["videos_per_loss"]) == (4 * videos, videos)
        assert method["one_class_per_loss"] == (recipe == "conv_tcc_penn_action")
        assert nested(seen, EVALUATIONS[align]) == EVALUATIONS[align]
        assert method["frozen_layers"] == (0 if embedder == "conv" else 3)
        blurred = objective == "scl" and dataset != "finegym"
        assert config["augment"]["blur_probability"] == (0.5 if blurred else 0.0)
    if objective == "supervised":
        classes, layers = {"pouring": (5, 2), "finegym": (99, 3)}[dataset]
        assert (method["num_classes"], method["embedder"]["layers"]) == (classes, layers)
        assert data["sampling"]["crops_in_time"] == (dataset == "finegym")
        assert data["sampling"]["min_overlap"] == 0


@pytest.mark.parametrize("scale", ["paper", "demo", "smoke"])
def test_sweeps_hold_what_carl_is_compared_with(scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each evaluation reads its own network; those with CARL's embedder begin with weights of images."""
    compared = {
        "pouring": ["conv", "conv_tcc", "conv_tcn", "tcc", "supervised"],
        "pennaction": ["conv", "conv_tcc"],
        "finegym": ["conv", "conv_tcc", "supervised"],
    }
    for sweep, names in compared.items():
        plan = paper(f"{sweep}_baselines", monkeypatch, f"scale={scale}")
        assert {stage.name for stage in plan} == {f"{what}-{name}" for what in ("pretrain", "align") for name in names}
        for name in names:
            trained, seen = plan[f"pretrain-{name}"], plan[f"align-{name}"]
            assert (trained.parents, seen.parents) == ((), (f"pretrain-{name}",))
            assert ("initial" in trained.inputs) == ("conv" not in name and scale == "paper")
            assert set(seen.inputs) == {"dataset", "weights"}
            method = trained.config["method"]
            assert seen.config["backbone"] == trained.config["backbone"]
            assert seen.config["embedder"] == method["embedder"]
            assert seen.config["unit_embeddings"] == method["unit_embeddings"]
            assert scale != "paper" or (seen.config["centre_crop"] is None) == (method["objective"] != "scl")
            assert name != "supervised" or seen.config["fractions"] == [1.0]


def test_a_smoke_run_ends_with_measures_and_a_film(tmp_path: Path) -> None:
    said = run_here("sweep=carl_pouring", "scale=smoke", "executor=local", f"root={tmp_path}")
    assert said.code == 0, said.out + said.err
    folders = {path.name: path for path in (tmp_path / "stages").glob("alignment-*")}
    assert len(folders) == 2
    for folder in folders.values():
        metrics = read_json(folder / "artifacts" / "metrics")
        assert metrics is not None
        assert {"kendalls_tau", "ap_at_5", "top1", "top1_at_0.1", "progression_r2", "chance_top1"} <= set(metrics)
        assert metrics["train_videos"] == 4
        assert inspect(folder / "artifacts" / "plots" / "alignment.mp4").frames >= 16
        names = {path.name for path in (folder / "artifacts" / "plots").iterdir()}
        assert names == {"alignment.mp4", "similarity.png", "trajectories.png"}
        assert len([*(folder / "artifacts" / "features" / "val").rglob("*.npz")]) == 3
