import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launch.planning.identity import identity, stage_id
from launch.planning.planner import CHECKOUT
from tests.planning import IDS, SNAPSHOT, plan_of, plan_text, resolved
from vssl.config import build, knob, semantic
from vssl.stages import STAGES

CROSS = plan_of("sweep=vicc_cross")


def parents(name: str) -> dict[str, str]:
    """role -> stage, of the weights that a stage reads."""
    return {
        role: str(ones[0].stage) for role, ones in CROSS[name].inputs.items() if role in ("main", "second", "weights")
    }


def test_point_15_the_second_half_of_a_cycle_reads_what_the_first_half_just_made() -> None:
    assert parents("cross1-rgb") == {"main": "single-rgb", "second": "single-flow"}
    assert parents("cross1-flow") == {"main": "single-flow", "second": "cross1-rgb"}
    assert parents("cross2-rgb") == {"main": "cross1-rgb", "second": "cross1-flow"}
    assert parents("cross2-flow") == {"main": "cross1-flow", "second": "cross2-rgb"}
    for stream in ("rgb", "flow"):
        assert parents(f"single-{stream}") == {}
        assert parents(f"retrieval-{stream}") == parents(f"linear-{stream}") == {"weights": f"cross2-{stream}"}
        assert CROSS[f"cross2-{stream}"].config["method"]["main_stream"] == stream
        assert parents(f"untrained-linear-{stream}") == parents(f"untrained-retrieval-{stream}") == {}
    assert CROSS["single-rgb"].parents == ()
    assert CROSS["cross1-rgb"].template == CROSS["cross2-rgb"].template == "cross-rgb"


def test_point_15_the_published_arguments() -> None:
    single, cross = CROSS["single-flow"].config, CROSS["cross2-flow"].config
    assert (single["epochs"], single["schedule_epochs"], single["global_batch_size"]) == (300, 500, 192)
    assert (cross["epochs"], cross["schedule_epochs"], cross["global_batch_size"]) == (100, None, 96)
    assert (single["method"]["bn_group_size"], cross["method"]["bn_group_size"]) == (48, 24)
    assert (single["method"]["freeze_prototypes_epochs"], cross["method"]["freeze_prototypes_epochs"]) == (100, 0)
    assert (single["method"]["queue_start_epoch"], cross["method"]["queue_start_epoch"]) == (200, 25)
    assert (single["runtime"]["amp"], cross["runtime"]["amp"]) == ("off", "fp16")
    for config in (single, cross):
        assert config["optim"] == {
            **{"name": "sgd", "base_lr": 0.6, "momentum": 0.9, "weight_decay": 1e-6},
            **{"nesterov": False, "decay_1d": True, "lr_of_batch": None, "clip_norm": None, "clip_by": "all"},
            "larc": {"trust": 0.001, "eps": 1e-8},
        }
        assert (config["schedule"]["final_lr"], config["schedule"]["warmup_epochs"]) == (0.0006, 0)
        assert (config["method"]["num_prototypes"], config["method"]["queue_len"]) == (300, 1920)
        assert (config["data"]["num_frames"], config["data"]["crop_size"], config["seed"]) == (32, 128, 31)
    linear = CROSS["linear-rgb"].config
    assert (linear["epochs"], linear["global_batch_size"], linear["schedule"]["milestones"]) == (100, 128, [60, 80])
    assert (linear["optim"]["base_lr"], linear["optim"]["weight_decay"], linear["optim"]["larc"]) == (0.1, 0.001, None)


def test_fine_tuning_is_the_published_one_and_is_tested_in_ten_crops() -> None:
    tuned, tested = CROSS["finetune-flow"].config, CROSS["tencrop-flow"].config
    assert (tuned["epochs"], tuned["global_batch_size"], tuned["dropout"]) == (500, 128, 0.9)
    assert tuned["schedule"] == {"name": "milestones", "milestones": [200, 300, 400, 450], "gamma": 0.1}
    assert (tuned["optim"]["base_lr"], tuned["optim"]["weight_decay"], tuned["backbone_lr_ratio"]) == (0.1, 0.001, 1)
    assert (tuned["bn"], tuned["bn_group_size"]) == ("local", 32)
    assert (tested["test_crops"], tested["test_view"]["centre_crop"]) == ("ten", 224)
    assert parents("finetune-flow") == {"weights": "cross2-flow"}
    assert parents("tencrop-flow") == {"weights": "finetune-flow"}
    assert CROSS["tencrop-fused"].parents == ("tencrop-rgb", "tencrop-flow")


@pytest.mark.parametrize("sweep", ["vicc_hmdb51", "vicc_splits"])
def test_all_splits_share_the_pretraining_of_the_main_sweep(sweep: str) -> None:
    plan = plan_of(f"sweep={sweep}")
    trained = [stage for stage in plan if stage.kind == "pretrain"]
    assert {stage.stage_id for stage in trained} == {s.stage_id for s in CROSS if s.kind == "pretrain"}
    dataset = "hmdb51" if sweep == "vicc_hmdb51" else "ucf101"
    for kind in ("retrieval", "linear", "finetune"):
        names = {stage.config["data"]["dataset"]["name"] for stage in plan if stage.kind == kind}
        assert names == {dataset, f"{dataset}_split2", f"{dataset}_split3"}
    assert plan["tencrop-mean"].parents == tuple(f"tencrop-split{split}-fused" for split in (1, 2, 3))


def test_three_seeds_share_the_flow_and_every_figure_of_them_is_averaged() -> None:
    plan = plan_of("sweep=vicc_seeds", "scale=demo")
    assert [stage.config["seed"] for stage in plan if stage.template == "single"] == [0, 1, 2] * 2
    assert [stage.name for stage in plan if stage.kind == "flow"] == ["flow"]
    for seed in range(3):
        weights = {
            of: [one.stage for one in plan[f"retrieval-{of}-flow.{seed}"].inputs.get("weights", ())]
            for of in ("untrained", "single", "cross")
        }
        assert weights == {"untrained": [], "single": [f"single-flow.{seed}"], "cross": [f"cross2-flow.{seed}"]}
    means = [stage for stage in plan if stage.kind == "summary"]
    assert len(means) == 2 * 3 * 3  # protocols, networks, streams
    for mean in means:
        assert mean.parents == tuple(f"{mean.name.removeprefix('mean-')}.{seed}" for seed in range(3))


def test_kinetics_networks_are_evaluated_on_ucf101_with_its_own_flow() -> None:
    plan = plan_of("sweep=vicc_k400")
    assert {s.config["data"]["dataset"]["name"] for s in plan if s.kind == "pretrain"} == {"kinetics400"}
    for stage in plan:
        if stage.kind in ("retrieval", "linear", "finetune", "multiview"):
            assert stage.config["data"]["dataset"]["name"] == "ucf101"
            assert [one.stage for one in stage.inputs.get("motion", ())] in ([], ["flow-ucf101"])


def test_the_flow_of_kinetics_is_made_in_shares_and_is_the_flow_of_the_whole(tmp_path: Path) -> None:
    sharded = plan_of("sweep=vicc_k400")
    parts = [stage.name for stage in sharded if stage.template == "part"]
    shares = [sharded[name].config["shard"] for name in parts]
    assert shares == [f"{n}/{len(parts)}" for n in range(1, len(parts) + 1)]
    assert sharded["flow"].parents == tuple(parts)
    assert sharded["flow"].dispensable == set(parts)
    text = "data: kinetics400\nstages:\n  - {name: flow, kind: flow, config: [recipe=vicc_flow]}\n"
    assert plan_text(tmp_path, text)["flow"].stage_id == sharded["flow"].stage_id


def test_kinetics_recipes_resolve_to_all_that_they_state() -> None:
    plan = plan_of("sweep=vicc_k400")
    single, cross = plan["single-rgb"].config, plan["cross2-flow"].config
    assert (single["epochs"], single["schedule_epochs"], single["global_batch_size"]) == (50, 60, 192)
    assert (cross["epochs"], cross["global_batch_size"], cross["method"]["queue_start_epoch"]) == (10, 96, 2)
    for stage in (plan["single-flow"], plan["cross1-rgb"]):
        assert [one.stage for one in stage.inputs["motion"]] == ["flow"]
        assert stage.config["method"]["num_prototypes"] == 300
    assert plan["flow"].config["data"]["dataset"]["name"] == "kinetics400"
    assert plan["flow-ucf101"].config["data"]["dataset"]["name"] == "ucf101"


def test_two_streams_meet_on_each_split_of_hmdb51() -> None:
    plan = plan_of("sweep=vicc_hmdb51")
    for split in (1, 2, 3):
        for kind in ("retrieval", "linear", "tencrop"):
            streams = tuple(f"{kind}-split{split}-{stream}" for stream in ("rgb", "flow"))
            assert plan[f"{kind}-split{split}-fused"].parents == streams
            assert [plan[name].config["data"]["modality"] for name in streams] == ["rgb", "flow"]
        assert plan[f"finetune-split{split}-flow"].config["epochs"] == 500


def different(*words: str) -> dict[str, int]:
    """Template -> different stages of it in the plan of vicc_cross with a grid."""
    return dict(Counter(stage.template for stage in plan_of("sweep=vicc_cross", *words)))


@pytest.mark.parametrize(
    "axis", ["num_prototypes=[100,300,1000]", "epsilon=[0.03,0.05,0.1]", "queue_start_epoch=[0,25,150]"]
)
def test_lanes_of_a_grid_share_what_the_axis_does_not_reach(axis: str) -> None:
    """Of all pretraining: flow and the untrained networks are made once. Of the cross-stream stages: single's, too."""
    one = different()
    everywhere = different(f"grid.all.method.{axis}")
    shared = {"flow"} | {name for name in one if name.startswith("untrained-")}
    assert everywhere == {name: count * (1 if name in shared else 3) for name, count in one.items()}
    if not axis.startswith("num_prototypes"):  # a cross-stream stage starts from single-stream's prototypes
        value = axis.partition("=")[2]
        key = axis.partition("=")[0]
        cross = different(f"grid.cross-rgb.method.{key}={value}")
        assert cross == {name: count * (1 if name in {*shared, "single"} else 3) for name, count in one.items()}


def test_numbers_of_cycles_share_all_cycles_that_they_have_in_common(tmp_path: Path) -> None:
    """A round is read by what it makes, so one, two and three cycles are one chain of three."""
    text = (CHECKOUT / "sweeps" / "vicc_cross.yaml").read_text()
    assert text.count("repeat: 2") == 1
    trained = []
    for cycles in (1, 2, 3):
        plan = plan_text(tmp_path, text.replace("repeat: 2", f"repeat: {cycles}"))
        trained.append({stage.stage_id for stage in plan if stage.kind == "pretrain"})
        assert len(trained[-1]) == 2 + 2 * cycles
    assert trained[0] < trained[1] < trained[2]


def test_every_cycle_can_be_evaluated_where_it_ends(tmp_path: Path) -> None:
    text = (CHECKOUT / "sweeps" / "vicc_cross.yaml").read_text().replace("repeat: 2", "repeat: 3")
    text += """  - name: retrieval-after{cycle}-{stream}
    kind: retrieval
    each: [{cycle: 1, stream: rgb}, {cycle: 1, stream: flow}, {cycle: 2, stream: rgb}, {cycle: 2, stream: flow}]
    config: [recipe=vicc_retrieval, "data.modality={stream}"]
    inputs: {motion: motion, weights: "{stream}@cross{cycle}-{stream}"}
"""
    plan = plan_text(tmp_path, text)
    for stream in ("rgb", "flow"):
        for cycle, name in (("1", f"after1-{stream}"), ("2", f"after2-{stream}"), ("3", stream)):
            assert [one.stage for one in plan[f"retrieval-{name}"].inputs["weights"]] == [f"cross{cycle}-{stream}"]


def test_features_are_kept_by_all_that_made_them() -> None:
    """The original's cache is a folder that knows neither checkpoint nor settings, and is used again unasked."""

    def ids(*words: str) -> dict[str, str]:
        plan = plan_of("sweep=vicc_cross", *words)
        return {name: plan[name].stage_id for name in ("cross2-rgb", "retrieval-rgb", "retrieval-fused")}

    plain = ids()
    for word in (
        "stages.retrieval.gallery=one-clip",
        "stages.retrieval.test_view.compat_jitter=true",
        "stages.retrieval.test_view.centre_crop=0",
        "stages.retrieval.data.frame_stride=2",
        "stages.retrieval.runtime.amp=bf16",
    ):
        found = ids(word)
        assert found["cross2-rgb"] == plain["cross2-rgb"], "nothing is trained again"
        assert found["retrieval-rgb"] != plain["retrieval-rgb"], word
        assert found["retrieval-fused"] != plain["retrieval-fused"], word
    assert ids("stages.retrieval.batch_size=8", "stages.retrieval.runtime.workers=2") == plain
    other = ids("stages.single.method.epsilon=0.04")
    assert not set(other.values()) & set(plain.values()), "other weights, other features"


def test_the_resolved_configs_are_those_of_the_snapshot() -> None:
    """After a change that is meant: `python -m tests.planning`, and read the difference."""
    meant = json.loads(SNAPSHOT.read_text())
    found = json.loads(json.dumps(resolved(CROSS)))
    assert list(found) == [stage.name for stage in CROSS]
    assert found == meant


@pytest.mark.parametrize("scale", ["paper", "demo", "smoke"])
def test_every_scale_has_the_same_graph(scale: str) -> None:
    plan = plan_of("sweep=vicc_cross", f"scale={scale}")
    assert [(stage.name, stage.parents) for stage in plan] == [(stage.name, stage.parents) for stage in CROSS]


@pytest.mark.parametrize("scale", ["demo", "smoke"])
def test_small_scales_need_no_gpu_and_flip_nothing(scale: str) -> None:
    for stage in plan_of("sweep=vicc_cross", f"scale={scale}"):
        assert stage.resources.gpus_per_node == 0
        assert stage.config.get("runtime", {}).get("amp", "off") == "off"
        assert stage.config.get("augment", {}).get("flip_probability", 0) == 0
        assert stage.config.get("test_view", {}).get("centre_crop", 0) == 0


def test_what_a_kind_does_not_read_is_not_in_its_identity() -> None:
    other = plan_of("sweep=vicc_cross", "stages.all.data.test_split=val", "stages.all.runtime.deterministic=false")
    assert other["flow"].stage_id == CROSS["flow"].stage_id  # no network runs in it
    other = plan_of("sweep=vicc_cross", "stages.all.data.test_split=val")
    trained = [stage.name for stage in CROSS if stage.kind == "pretrain"]
    assert all(other[name].stage_id == CROSS[name].stage_id for name in trained)
    assert other["linear-rgb"].stage_id != CROSS["linear-rgb"].stage_id


def test_an_older_binding_is_read_by_its_producer(tmp_path: Path) -> None:
    text = (CHECKOUT / "sweeps" / "vicc_cross.yaml").read_text()
    for name, producer in (("early", "single-rgb"), ("middle", "cross1-rgb")):
        text += f"  - {{name: {name}, kind: retrieval, config: [recipe=vicc_retrieval], "
        text += f'inputs: {{weights: "rgb@{producer}"}}}}\n'
    plan = plan_text(tmp_path, text)
    assert plan["early"].parents == ("single-rgb",)
    assert plan["middle"].parents == ("cross1-rgb",)
    assert plan["retrieval-rgb"].parents == ("cross2-rgb",)


RECORDS = json.loads(IDS.read_text())


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_ids_never_change(name: str) -> None:
    """A failure here means that an upgrade would retrain every network of every user: see `since` in vssl.config."""
    record = RECORDS[name]
    kind = STAGES[record["kind"]]
    inputs = {role: ids if kind.roles[role].many else ids[0] for role, ids in record["inputs"].items()}
    config = build(kind.config_class(), record["config"])
    assert stage_id(identity(record["kind"], kind.version, semantic(config), inputs), pending=False) == record["id"]


def test_a_field_that_is_added_later_changes_no_id() -> None:
    record = RECORDS["linear-rgb.0"]
    linear = STAGES["linear"].config_class()

    @dataclass(frozen=True, kw_only=True)
    class Later(linear):  # type: ignore[misc, valid-type]
        label_smoothing: float = knob(0.0, doc="added in 0.2", since="0.2", neutral=0.0)

    def of(config: Any) -> str:
        inputs = {role: ids[0] for role, ids in record["inputs"].items()}
        return stage_id(identity("linear", 1, semantic(config), inputs), pending=False)

    assert of(build(Later, record["config"])) == record["id"]
    assert of(build(Later, {**record["config"], "label_smoothing": 0.1})) != record["id"]
