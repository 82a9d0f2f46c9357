"""The sweeps of FGKVMem: the graph, and every value of the published tables (card, section 3)."""

from typing import Any

import pytest

from launch.plan import Plan
from tests.planning import nested, plan_of

NETS, OBJECTIVES, TESTS = ("r3d18", "r21d", "slow_r18"), ("byol", "fgkvmem_memory", "fgkvmem"), ("ucf101", "hmdb51")
UCF = {"epochs": 400, "batch": 64, "base_lr": 1.2, "warmup": 35, "knn": 20, "workers": 8, "layers": (2, 0)}
K400 = {"epochs": 100, "batch": 256, "base_lr": 2.4, "warmup": 10, "knn": 20, "workers": 6, "layers": (2, 0)}
FAST, SLOW = {"clip": (16, 4, 112)}, {"clip": (8, 8, 224)}
# sweep, net -> the row of the table, under its own words
TABLE: dict[tuple[str, str], dict[str, Any]] = {
    ("ucf101", "r3d18"): UCF | FAST | {"slots": 4096, "sparsity": 0},
    ("ucf101", "r21d"): UCF | FAST | {"slots": 2048, "sparsity": 0},
    ("ucf101", "slow_r18"): UCF | SLOW | {"slots": 4096, "sparsity": 0},
    ("k400", "r3d18"): K400 | FAST | {"slots": 4096, "sparsity": 0},
    ("k400", "r21d"): K400 | FAST | {"slots": 2048, "sparsity": 0},
    ("k400", "slow_r18"): K400
    | SLOW
    | {"slots": 4096, "sparsity": 0.001, "batch": 128, "knn": 10, "workers": 4, "layers": (1, 2)},
}
PLANS = {sweep: plan_of(f"sweep=fgkvmem_{sweep}") for sweep in ("ucf101", "k400")}


@pytest.mark.parametrize(("sweep", "net"), TABLE)
def test_pretraining_has_the_published_values(sweep: str, net: str) -> None:
    row, config = TABLE[sweep, net], PLANS[sweep][f"pretrain-fgkvmem-{net}"].config
    frames, stride, crop = row["clip"]
    query_layers, output_layers = row["layers"]
    expected = {
        "seed": 0,
        "epochs": row["epochs"],
        "schedule_epochs": None,
        "global_batch_size": row["batch"],
        "backbone": {"name": net},
        "data": {
            "num_frames": frames, "frame_stride": stride, "crop_size": crop, "statistics": "kinetics",
            "sampling": {"name": "timed", "target_fps": 30.0}, "modality": "rgb",
        },
        "augment": {
            "name": "clip-pair", "crop_area": [0.2, 0.766], "crop_aspect": [0.75, 1.3333], "flip_probability": 0.5,
            "jitter_probability": 0.8, "jitter": [0.6, 0.6, 0.6, 0.15], "grey_probability": 0.2,
            "blur_probability": 0.5, "blur_sigma": [0.1, 2.0],
        },
        "optim": {
            "name": "sgd", "base_lr": row["base_lr"], "momentum": 0.9, "nesterov": True, "weight_decay": 1e-6,
            "larc": {"trust": 0.001, "eps": 1e-8}, "decay_1d": False,
        },
        "schedule": {
            "name": "joined_cosine", "final_lr": 0.0, "warmup_epochs": row["warmup"], "warmup_start_lr": 0.001,
            "cosine_after_warmup": False,
        },
        "method": {
            "name": "fgkvmem", "predictor": "kvmemory", "proj_dim": 256, "mlp_dim": 4096, "projector_layers": 2,
            "predictor_layers": 2, "temperature": 0.5, "ema_decay": 0.996, "ema_annealing": True,
            "bn_group_size": None,
            "kvmemory": {
                "slots": row["slots"], "heads": 1, "query_dim": 256, "value_dim": 256, "scale": 16.0,
                "query_layers": query_layers, "output_layers": output_layers, "residual": False,
                "w_sparsity": row["sparsity"], "sparsity_top_k": 500,
            },
            "concepts": {
                "num": 4096, "similarity": "dot", "tau_s": 0.05, "tau_t": 0.05, "center_momentum": 0.9,
                "center_scale": 1.0, "w_recon_src": 0.1, "w_recon_tgt": 0.1, "w_align": 0.01, "recon": "cosine",
                "reduction": "numel",
            },
        },
        "knn": {
            "every_epochs": row["knn"], "k": 200, "temperature": 0.5,
            "test_split": "val" if sweep == "k400" else "test",
        },
        "runtime": {"amp": "off", "workers": row["workers"]},
    }  # fmt: skip
    assert nested(config, expected) == expected


@pytest.mark.parametrize("sweep", PLANS)
@pytest.mark.parametrize("net", NETS)
def test_evaluations_have_the_published_values(sweep: str, net: str) -> None:
    frames, stride, crop = TABLE["ucf101", net]["clip"]
    sides, side = ([256, 320], 256) if crop == 224 else ([128, 160], 128)
    plan = PLANS[sweep]
    seen = {"num_frames": frames, "frame_stride": stride, "crop_size": crop, "statistics": "kinetics"}
    augment = {
        "name": "short-side", "short_side": sides, "flip_probability": 0.5, "jitter_probability": 1.0,
        "jitter": [0.4, 0.4, 0.4, 0.1], "grey_probability": 0.2,
    }  # fmt: skip
    views = {
        "num_clips": 10, "num_crops": 3, "crop_size": side, "short_side": side, "rounding": "fgkvmem",
        "legacy_views": None,
    }  # fmt: skip
    tenths = {"sampling": {"name": "timed", "target_fps": 30.0, "compat_short_of_end": True}}
    sgd = {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.0, "larc": None}
    for dataset in TESTS:
        of = {kind: plan[f"{kind}-{dataset}-fgkvmem-{net}"].config for kind in ("linear", "finetune", "multiview")}
        assert {config["data"]["dataset"]["name"] for config in of.values()} == {dataset}
        expected = {
            "epochs": 200, "global_batch_size": 32, "seed": 0, "dropout": 0.5, "label_smoothing": 0.1,
            "precise_bn_batches": 200, "bn": "sync", "backbone_lr_ratio": 1.0, "data": seen, "augment": augment,
            "mixup": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "probability": 1.0, "cutmix_probability": 0.5},
            "optim": sgd | {"base_lr": 0.2},
            "schedule": {"name": "joined_cosine", "final_lr": 0.0, "warmup_epochs": 5, "warmup_start_lr": 0.001},
        }  # fmt: skip
        assert nested(of["finetune"], expected) == expected
        expected = {
            "epochs": 100, "global_batch_size": 32, "seed": 0, "head": "plain", "trunk": "eval", "data": seen | tenths,
            "augment": augment, "test_view": views, "optim": sgd | {"base_lr": 0.1},
            "schedule": {"name": "joined_cosine", "final_lr": 0.0, "warmup_epochs": 5, "warmup_start_lr": 0.0001},
        }  # fmt: skip
        assert nested(of["linear"], expected) == expected
        expected = {"data": seen | tenths, "test_view": views, "test_crops": "centre", "scores": "mean"}
        assert nested(of["multiview"], expected) == expected
        config = plan[f"retrieval-{dataset}-fgkvmem-{net}"].config
        expected = {
            "gallery": "centre-clip", "features": "raw", "ks": [1, 5, 10, 20, 50], "data": seen,
            "test_view": views | {"num_crops": 1, "crop_size": 0},
        }  # fmt: skip
        assert nested(config, expected) == expected


def test_objectives_differ_in_the_predictor_and_the_concepts_alone() -> None:
    for sweep, plan in PLANS.items():
        for net in NETS:
            methods = [plan[f"pretrain-{objective}-{net}"].config["method"] for objective in OBJECTIVES]
            byol, memory, full = ({k: v for k, v in m.items() if k not in ("predictor", "concepts")} for m in methods)
            assert byol == memory == full, sweep
            assert [m["predictor"] for m in methods] == ["mlp", "kvmemory", "kvmemory"]
            assert [m["concepts"] is None for m in methods] == [True, True, False]


@pytest.mark.parametrize("scale", ["paper", "demo", "smoke"])
@pytest.mark.parametrize("sweep", PLANS)
def test_what_follows_what_at_every_scale(sweep: str, scale: str) -> None:
    plan: Plan = plan_of(f"sweep=fgkvmem_{sweep}", f"scale={scale}")
    assert len([*plan]) == len(NETS) * len(OBJECTIVES) * (1 + 4 * len(TESTS))
    for net in NETS:
        for objective in OBJECTIVES:
            trained = f"pretrain-{objective}-{net}"
            assert plan[trained].parents == ()
            for dataset in TESTS:
                for kind in ("retrieval", "linear", "finetune"):
                    assert plan[f"{kind}-{dataset}-{objective}-{net}"].parents == (trained,)
                tuned = f"finetune-{dataset}-{objective}-{net}"
                assert plan[f"multiview-{dataset}-{objective}-{net}"].parents == (tuned,)
    for stage in plan:
        if scale != "paper":
            assert stage.resources.gpus_per_node == 0
            assert stage.config.get("augment", {}).get("flip_probability", 0) == 0


def test_the_papers_values_where_they_are_not_the_codes() -> None:
    line = [
        "method.kvmemory.scale=64",
        "optim.weight_decay=1e-4",
        "method.concepts={w_recon_src: 0.01, w_recon_tgt: 0.01, recon: l2, center_scale: -1}",
    ]
    words = [f"stages.pretrain-fgkvmem-r3d18.{one}" for one in line]
    method = plan_of("sweep=fgkvmem_ucf101", *words)["pretrain-fgkvmem-r3d18"].config
    assert method["optim"]["weight_decay"] == 1e-4
    assert method["method"]["kvmemory"]["scale"] == 64
    assert method["method"]["concepts"]["recon"] == "l2"
    assert method["method"]["concepts"]["center_scale"] == -1
    assert method["method"]["concepts"]["w_align"] == 0.01


@pytest.mark.parametrize("scale", ["paper", "demo", "smoke"])
def test_the_ablation_compares_objectives_over_seeds(scale: str) -> None:
    plan = plan_of("sweep=fgkvmem_ablation", f"scale={scale}")
    lanes = [stage.name for stage in plan]
    for objective in OBJECTIVES:
        assert {f"pretrain-{objective}.{seed}" for seed in range(3)} <= set(lanes)
        for kind in ("linear", "retrieval"):
            for seed in range(3):
                assert plan[f"{kind}-{objective}.{seed}"].parents == (f"pretrain-{objective}.{seed}",)
            assert plan[f"mean-{kind}-{objective}"].parents == tuple(f"{kind}-{objective}.{seed}" for seed in range(3))
    assert plan["linear-untrained.0"].parents == ()
    assert len(lanes) == 3 * (3 * len(OBJECTIVES) + 2) + 8
    if scale == "paper":
        same = PLANS["ucf101"]["pretrain-fgkvmem-r3d18"].stage_id
        assert plan["pretrain-fgkvmem.0"].stage_id == same
