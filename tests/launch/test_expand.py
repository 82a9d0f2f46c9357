import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launch.planning.grid import lanes, read_axes
from tests.planning import plan_of, plan_text
from vssl.artifacts import canonical_json, sha256_file, sha256_text
from vssl.config import ConfigError, build, semantic
from vssl.stages import STAGES

CHAIN = """
stages:
  - {name: root, kind: probe, output: s}
  - {name: mid, kind: probe, config: [seed=1], inputs: {before: s}, output: s}
  - name: leaf-{x}
    kind: probe
    each: [{x: a, n: 4}, {x: b, n: 5}]
    config: ["steps={n}", "seed=2{n}"]
    inputs: {before: s}
    output: "l-{x}"
  - {name: last, kind: probe, config: [seed=3], inputs: {before: [l-a, l-b, s@root]}}
"""


def names(plan: object) -> list[str]:
    return [stage.name for stage in plan]  # type: ignore[attr-defined]


def test_edges_come_from_names_and_the_newest_binding_is_read(tmp_path: Path) -> None:
    plan = plan_text(tmp_path, CHAIN)
    assert names(plan) == ["root", "mid", "leaf-a", "leaf-b", "last"]
    assert plan["mid"].parents == ("root",)
    assert plan["leaf-a"].parents == ("mid",)
    assert plan["last"].parents == ("leaf-a", "leaf-b", "root")
    assert plan["leaf-b"].config["steps"] == 5
    assert all(stage.lane is None for stage in plan)


def test_an_id_is_what_the_contract_says(tmp_path: Path) -> None:
    for plan in (plan_text(tmp_path, CHAIN), plan_of("sweep=vicc_single", "scale=smoke")):
        for stage in plan:
            kind = STAGES[stage.kind]
            inputs = {
                role: [one.id for one in ones] if kind.roles[role].many else ones[0].id
                for role, ones in stage.inputs.items()
            }
            meant = {
                "kind": stage.kind,
                "version": kind.version,
                "config": semantic(build(kind.config_class(), stage.config)),
                "inputs": inputs,
            }
            assert stage.stage_id == sha256_text(canonical_json(meant))[:16]
            for ones in stage.inputs.values():
                for one in ones:
                    assert (one.stage is None) != (one.source is None)
                    assert one.stage is None or one.id == f"{plan[one.stage].stage_id}/{one.artifact}"


def test_a_value_that_cannot_change_a_result_changes_no_id(tmp_path: Path) -> None:
    plain = plan_of("sweep=vicc_single", "scale=smoke")
    other = plan_of(
        *("sweep=vicc_single", "scale=smoke", "stages.all.runtime.threads=1", "stages.all.runtime.workers=3"),
        *("stages.single.resources=pretrain_single", "cluster=a100"),
    )
    assert [stage.stage_id for stage in plain] == [stage.stage_id for stage in other]
    assert other["single-rgb"].config["runtime"]["workers"] == 3
    assert other["single-rgb"].resources.gpus_per_node == 4


def test_one_axis_on_the_probe_makes_one_pretraining_and_n_probes() -> None:
    plan = plan_of("sweep=vicc_cross", "grid.linear.optim.base_lr=[0.1,0.3,1]")
    count = {template: sum(s.template == template for s in plan) for template in ("single", "cross-rgb", "linear")}
    assert count == {"single": 2, "cross-rgb": 2, "linear": 6}
    assert [plan[f"linear-rgb.{n}"].config["optim"]["base_lr"] for n in range(3)] == [0.1, 0.3, 1.0]
    assert plan["linear-rgb.1"].axes == {"linear.optim.base_lr": 0.3}
    assert plan["linear-rgb.1"].lane == 1
    assert plan["linear-rgb.1"].parents == ("cross2-rgb",)
    assert plan["linear-fused.2"].parents == ("linear-rgb.2", "linear-flow.2")
    assert "retrieval-rgb" in plan.by_name
    assert "untrained-linear-rgb" in plan.by_name


def test_lanes_share_by_content_and_take_the_lowest_lane_as_name(tmp_path: Path) -> None:
    text = "stages:\n  - {name: a, kind: probe, output: s}\n"
    text += "  - {name: b, kind: probe, inputs: {before: s}, config: [seed=9]}\n"
    plan = plan_text(tmp_path, text, "grid.a.steps=[1,2,1]", "grid.b.seed=[5,6]")
    assert names(plan) == ["a.0", "a.2", "b.0", "b.1", "b.2", "b.3"]
    assert plan["b.3"].parents == ("a.2",)
    assert plan["b.3"].axes == {"a.steps": 2, "b.seed": 6}


def test_a_value_equal_to_the_default_is_the_default(tmp_path: Path) -> None:
    default = plan_text(tmp_path, "stages:\n  - {name: a, kind: probe}\n")
    plan = plan_text(tmp_path, "stages:\n  - {name: a, kind: probe}\n", "grid.a.seed=[0,1]")
    assert plan["a.0"].stage_id == default["a"].stage_id


def test_coupled_axes_move_together(tmp_path: Path) -> None:
    plan = plan_text(tmp_path, CHAIN, "grid.leaf-a=[{seed:7,steps:1},{seed:8,steps:2}]", "grid.last.seed=[3,4]")
    assert [(s.config["seed"], s.config["steps"]) for s in plan if s.element == "leaf-a"] == [(7, 1), (8, 2)]
    assert len([s for s in plan if s.element == "last"]) == 4
    text = CHAIN + "grid:\n  - {leaf-a.seed: 7, leaf-b.seed: 70}\n  - {leaf-a.seed: 8, leaf-b.seed: 80}\n"
    plan = plan_text(tmp_path, text)
    assert [s.config["seed"] for s in plan if s.template == "leaf"] == [7, 8, 70, 80]
    line = plan_text(tmp_path, CHAIN, "grid=[{leaf-a.seed:7,leaf-b.seed:70},{leaf-a.seed:8,leaf-b.seed:80}]")
    assert [stage.stage_id for stage in line] == [stage.stage_id for stage in plan]
    plan = plan_text(tmp_path, text, "grid.leaf-a.seed=[1,2,3]")  # the line's axis replaces the sweep's
    assert [s.config["seed"] for s in plan if s.element == "leaf-a"] == [1, 2, 3]
    assert "leaf-b" in plan.by_name


def test_the_nearer_scope_wins(tmp_path: Path) -> None:
    plan = plan_text(tmp_path, CHAIN, "stages.leaf-a.seed=11", "stages.leaf.seed=12", "stages.all.seed=13")
    assert [plan[name].config["seed"] for name in ("root", "leaf-a", "leaf-b")] == [13, 11, 12]
    plan = plan_text(tmp_path, CHAIN, "grid.all.seed=[21,22]", "grid.leaf-a.seed=[5]", "stages.all.seed=13")
    assert {stage.config["seed"] for stage in plan if stage.element == "leaf-a"} == {5}
    assert {stage.config["seed"] for stage in plan if stage.element == "leaf-b"} == {21, 22}


def test_layers_win_in_the_documented_order() -> None:
    """configs < recipe < template block < scale < stages. < grid, each on a key that the one below sets."""

    def epochs(*words: str) -> list[int]:
        plan = plan_of("sweep=vicc_single", *words)
        return [stage.config["epochs"] for stage in plan if stage.element == "linear-rgb"]

    assert epochs() == [100]  # the recipe
    assert epochs("scale=demo") == [12]
    assert epochs("scale=demo", "stages.linear.epochs=13") == [13]
    assert epochs("scale=demo", "stages.linear.epochs=13", "grid.linear.epochs=[14,15]") == [14, 15]


def test_the_template_block_stands_between_recipe_and_scale(tmp_path: Path) -> None:
    text = "stages:\n  - {name: l, kind: linear, config: [recipe=vicc_linear, epochs=7, optim.momentum=0.5]}\n"
    assert plan_text(tmp_path, text)["l"].config["epochs"] == 7
    small = plan_text(tmp_path, text, "scale=demo")["l"].config
    assert (small["epochs"], small["optim"]["momentum"], small["optim"]["weight_decay"]) == (12, 0.5, 0.001)


def test_a_group_is_chosen_in_any_layer() -> None:
    assert plan_of("sweep=vicc_single", "scale=smoke")["single-rgb"].config["backbone"]["name"] == "tiny"
    big = plan_of("sweep=vicc_single", "scale=smoke", "stages.all.backbone=s3d")
    assert big["single-rgb"].config["backbone"] == {"name": "s3d"}
    wide = plan_of("sweep=vicc_single", "scale=smoke", "stages.all.backbone.width=8")
    assert wide["single-rgb"].config["backbone"] == {"name": "tiny", "width": 8}
    both = plan_of("sweep=vicc_single", "grid.all.backbone=[s3d,tiny]")
    assert [s.config["backbone"]["name"] for s in both if s.element == "linear-rgb"] == ["s3d", "tiny"]
    assert "flow" in both.by_name  # optical flow has no backbone: one stage for both lanes


def test_another_member_of_a_union_leaves_nothing_of_the_old_one() -> None:
    plan = plan_of("sweep=vicc_single", "stages.linear.schedule={name:cosine,final_lr:0.0}")
    assert plan["linear-rgb"].config["schedule"]["name"] == "cosine"
    assert "milestones" not in plan["linear-rgb"].config["schedule"]


def test_weights_fit_only_their_backbone() -> None:
    with pytest.raises(ConfigError, match=r"retrieval-rgb.*tiny.*single-rgb.*s3d.*grid.all.backbone= or stages.all"):
        plan_of("sweep=vicc_single", "stages.retrieval.backbone=tiny")


def test_data_reaches_only_templates_that_name_none(tmp_path: Path) -> None:
    text = "data: ucf101\nstages:\n"
    text += "  - {name: a, kind: retrieval, config: [recipe=vicc_retrieval, data=motions_demo]}\n"
    text += "  - {name: b, kind: retrieval, config: [recipe=vicc_retrieval]}\n"

    def datasets(*words: str) -> list[str]:
        return [stage.config["data"]["dataset"]["name"] for stage in plan_text(tmp_path, text, *words)]

    assert datasets() == ["motions_demo", "ucf101"]
    assert datasets("data=motions_smoke") == ["motions_demo", "motions_smoke"]
    assert datasets("scale=smoke") == ["motions_demo", "motions_smoke"]
    assert datasets("scale=smoke", "data=ucf101") == ["motions_demo", "ucf101"]
    assert datasets("stages.b.data=motions_smoke", "stages.a.data=ucf101") == ["ucf101", "motions_smoke"]
    plan = plan_text(tmp_path, text, "data=./videos", "scale=smoke")
    dataset = plan["b"].config["data"]["dataset"]
    assert (dataset["name"], dataset["path"]) == ("videos", str(tmp_path / "videos"))
    assert (dataset["layout"], dataset["generated"]) == ("auto", None)
    assert plan["b"].config["data"]["num_frames"] == 4  # the scale's other values stay
    assert len(plan.datasets) == 2


def test_ids_are_pending_below_a_dataset_that_is_not_prepared() -> None:
    pending = plan_of("sweep=vicc_single", digest=lambda _: None)
    again = plan_of("sweep=vicc_single", digest=lambda _: None)
    assert [stage.stage_id for stage in pending] == [stage.stage_id for stage in again]
    for stage in pending:
        assert stage.stage_id.startswith("pending")
        assert len(stage.stage_id) == 16
    assert len({stage.stage_id for stage in pending}) == len(pending.stages)
    (key,) = pending.datasets
    assert pending["flow"].inputs["dataset"][0].id == f"pending:{key}"
    assert pending["flow"].inputs["dataset"][0].source == f"dataset:{key}"


def test_equal_content_elsewhere_has_equal_ids_and_other_content_has_not() -> None:
    here = plan_of("sweep=vicc_single", "data=/here/videos")
    moved = plan_of("sweep=vicc_single", "data=/there/videos")
    other = plan_of("sweep=vicc_single", "data=/here/others")
    assert [s.stage_id for s in here] == [s.stage_id for s in moved]
    assert not {s.stage_id for s in here} & {s.stage_id for s in other}


def test_inputs_that_a_config_does_not_use_are_dropped() -> None:
    plan = plan_of("sweep=vicc_single")
    assert "motion" not in plan["single-rgb"].inputs
    assert plan["single-rgb"].parents == ()
    assert plan["single-flow"].parents == ("flow",)


def test_weights_from_a_file_enter_by_content(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    file.write_bytes(b"weights")
    text = "stages:\n  - {name: r, kind: retrieval, config: [recipe=vicc_retrieval], "
    text += f"inputs: {{weights: 'file:{file}'}}}}\n"
    (reference,) = plan_text(tmp_path, text)["r"].inputs["weights"]
    assert (reference.id, reference.source, reference.type) == (sha256_file(file), f"file:{file}", "weights")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        plan_text(tmp_path, text.replace("w.pt", "x.pt"))
    with pytest.raises(ConfigError, match="absolute path"):
        plan_text(tmp_path, text.replace(str(file), "w.pt"))


def test_collect_takes_all_lanes_that_agree_on_the_other_axes(tmp_path: Path) -> None:
    text = CHAIN.replace("{name: last, kind: probe,", "{name: last, kind: probe, collect: [seed],")
    plan = plan_text(tmp_path, text, "grid.mid.seed=[1,2,3]", "grid.leaf.steps=[8,9]")
    assert names(plan)[-2:] == ["last.0", "last.1"]
    assert plan["last.1"].parents == ("leaf-a.1", "leaf-a.3", "leaf-a.5", "leaf-b.1", "leaf-b.3", "leaf-b.5", "root")
    assert plan["last.1"].axes == {"leaf.steps": 9}
    assert plan_text(tmp_path, text)["last"].parents == ("leaf-a", "leaf-b", "root")
    with pytest.raises(ConfigError, match=r"collect: no axis sets `sede`.*did you mean `seed`"):
        plan_text(tmp_path, text.replace("[seed]", "[sede]"), "grid.mid.seed=[1,2]")


def test_collecting_into_a_role_that_takes_one_is_refused(tmp_path: Path) -> None:
    text = "stages:\n"
    text += "  - {name: r, kind: retrieval, config: [recipe=vicc_retrieval], output: f}\n"
    text += "  - {name: x, kind: fusion, inputs: {rgb: f, flow: f}, collect: [seed]}\n"
    with pytest.raises(ConfigError, match="input `rgb` of `x` takes one artifact, but the collected lanes give 2"):
        plan_text(tmp_path, text, "grid.r.seed=[1,2]")


def test_after_orders_without_data_and_may_look_down(tmp_path: Path) -> None:
    text = "stages:\n  - {name: a, kind: probe, after: b}\n"
    text += "  - {name: 'b{n}', kind: probe, each: {n: [1, 2]}, config: ['seed={n}']}\n"
    plan = plan_text(tmp_path, text)
    assert names(plan) == ["b1", "b2", "a"]
    assert plan["a"].after == ("b1", "b2")
    plan = plan_text(tmp_path, text, "grid.b1.steps=[1,2]")
    assert plan["a"].after == ("b1.0", "b2", "b1.1")


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        (CHAIN, ["grid.leaf.sede=[1,2]"], "no stage of `leaf` reads `sede`.*did you mean `seed`"),
        (CHAIN, ["grid.laef.seed=[1,2]"], "no stage is named `laef`.*did you mean `leaf`"),
        (CHAIN, ["grid.all.optim.base_lr=[1,2]"], "no stage of `all` reads `optim.base_lr`"),
        (CHAIN, ["grid.all.step_s=[1,2]"], "grid.all.step_s: no stage's result depends on it"),
        (CHAIN, ["grid.leaf.seed=[4,4]"], "equal values"),
        (CHAIN, ["grid.leaf.seed=3"], r"an axis is a list, as in 'grid.leaf.seed=\[3\]'"),
        (CHAIN, ["grid.leaf.seed=[]"], "empty list"),
        (CHAIN, ["grid.leaf=[{seed:1},{steps:2}]"], "different keys"),
        (CHAIN, ["grid.leaf=[1,2]"], "`leaf` names no key"),
        (CHAIN, ["grid.leaf=[{seed:1}]", "grid.leaf.seed=[2]"], "`leaf.seed` is on two axes"),
        (CHAIN, ["grid.leaf.seed=[a,b]"], r"stage `leaf-a` \(.*:5\): `seed` is 'a'"),
        (CHAIN, ["stages.leaf.sede=1"], "stages.leaf.sede: no stage of `leaf` reads.*did you mean `seed`"),
        (CHAIN, ["stages.leaf=1"], "stages.leaf.KEY=VALUE"),
        (CHAIN, ["stages.leaf.resources=gpu"], "resources is `gpu`.*cpu"),
        (CHAIN, ["stages.leaf.resources.gpus=1"], "unknown key `resources.gpus`"),
        (CHAIN, ["stages.leaf.resources=5"], "resources is 5; expected a mapping.*cpu"),
        (CHAIN, ["stages.leaf.resources=null"], "resources is None; expected a mapping.*cpu"),
        (CHAIN, ["stages.leaf.resources.cpus_per_task=0"], "`resources.cpus_per_task` is 0; expected at least 1"),
        (CHAIN, ["stages.leaf.resources={tasks_per_node:0}"], "`resources.tasks_per_node` is 0; expected at least 1"),
        (CHAIN.replace("s@root", "s@rot"), [], "`s` is not written by `rot`.*did you mean `root`"),
        (CHAIN.replace("before: s}", "before: l-a}", 1), [], ":4: `mid` reads `l-a`.*written further down"),
        (CHAIN.replace("l-a, l-b", "l-c, l-b"), [], "`last` reads `l-c`, which no stage writes.*did you mean `l-"),
        (CHAIN.replace("s@root", "s.stat"), [], "makes no artifact `stat`.*did you mean `state`"),
        (CHAIN.replace("s@root", "s@"), [], None),
        (CHAIN.replace("s@root", "../s"), [], "is no input; write NAME"),
        (CHAIN.replace("seed=1]", "sede=1]"), [], r"stage `mid` \(.*:4\): unknown key `sede`.*did you mean `seed`"),
        (CHAIN.replace("seed=1]", "seed=1 = 2]"), [], ":4.: config:.*quoted twice"),
        (CHAIN.replace("[seed=1]", "[seed=1], after: nobody"), [], ":4: after: no stage is named `nobody`"),
        (CHAIN.replace("[seed=1]", "[seed=1], after: last"), [], "other: mid after last after leaf-a after mid"),
        (CHAIN.replace("seed=3", "seed=1").replace("[l-a, l-b, s@root]", "s@root"), [], "the same work"),
        ("stages:\n  - {name: r, kind: retrieval, config: [recipe=vicc_retrieval, data.modality=flow]}\n", [],
         r"written.yaml:2: `r` needs the input `motion` \(flow\)"),
        ("stages:\n  - {name: f, kind: flow, output: m}\n"
         "  - {name: r, kind: retrieval, config: [recipe=vicc_retrieval], inputs: {weights: m}}\n", [],
         r":3: input `weights` of `r` takes weights, but `m` is flow \(of `f`\); fitting here: nothing"),
        ("stages:\n  - {name: l, kind: linear, config: [recipe=vicc_linear], output: p}\n"
         "  - {name: r, kind: retrieval, config: [recipe=vicc_retrieval], inputs: {weights: p}}\n", [],
         r"but `p` is predictions.*fitting here: p.weights"),
        ("stages:\n  - {name: p, kind: pretrain, config: [recipe=vicc_sinlge]}\n", [], "did you mean `vicc_single`"),
        ("stages:\n  - {name: p, kind: pretrain}\n", [], "`epochs` is missing"),
        ("stages:\n  - {name: r, kind: retrieval, config: [data=./x]}\n", [], "give an absolute folder"),
        ("stages:\n  - {name: r, kind: flow}\n", ["stages.r.data.dataset.path=x"], "give an absolute one, as in /"),
        ("stages:\n  - {name: r, kind: flow, inputs: {}}\n", ["stages.r.data=ufc101"], "did you mean `ucf101`"),
        ("stages:\n  - {name: r, kind: flow, inputs: {}}\n", ["stages.r.recipe=null"], "`recipe` is None; .*vicc_flow"),
    ],
)  # fmt: skip
def test_a_sweep_that_cannot_work_is_refused_with_the_place_and_the_remedy(
    tmp_path: Path, text: str, words: list[str], message: str | None
) -> None:
    if message is None:
        plan_text(tmp_path, text, *words)
        return
    with pytest.raises(ConfigError, match=message):
        plan_text(tmp_path, text, *words)


def test_batches_that_do_not_divide_are_refused_before_anything_is_queued() -> None:
    with pytest.raises(ConfigError, match=r"single-rgb.*batch_size is 100, not .* of .*48.*to 96 or 144"):
        plan_of("sweep=vicc_single", "stages.single.global_batch_size=100", "stages.single.method.queue_len=1900")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.dictionaries(
        st.sampled_from(["root", "mid", "leaf", "leaf-b", "last", "all"]), st.integers(1, 3), max_size=3
    ),
)
def test_every_lane_has_its_values_and_equal_stages_are_one(tmp_path: Path, sizes: dict[str, int]) -> None:
    words = [f"grid.{scope}.steps=[{','.join(str(10 * n + i) for i in range(size))}]"
             for n, (scope, size) in enumerate(sizes.items())]  # fmt: skip
    plan = plan_text(tmp_path, CHAIN, *words)
    assert len({stage.stage_id for stage in plan}) == len(plan.stages)
    assert len({stage.name for stage in plan}) == len(plan.stages)
    placed: set[str] = set()
    for stage in plan:
        assert set(stage.parents) <= placed
        placed.add(stage.name)
        for parent in stage.parents:  # a child never mixes values of one axis
            for label, value in plan[parent].axes.items():
                assert stage.axes[label] == value
    total = 1
    for size in sizes.values():
        total *= size
    assert len([stage for stage in plan if stage.element == "last"]) <= total
    for stage in plan:
        near = [scope for scope in ("all", stage.template, stage.element) if scope in sizes]
        if near:
            start = 10 * list(sizes).index(near[-1])
            assert stage.config["steps"] in range(start, start + sizes[near[-1]])


@given(sizes=st.lists(st.integers(1, 4), max_size=3))
def test_lanes_are_the_product_with_the_last_axis_fastest(sizes: list[int]) -> None:
    words = tuple((f"all.key{n}", list(range(size))) for n, size in enumerate(sizes))
    assert list(lanes(read_axes(None, "", words))) == list(itertools.product(*map(range, sizes)))


def test_a_thousand_lanes_are_a_thousand_of_what_differs_and_one_of_the_rest() -> None:
    seeds = ",".join(map(str, range(1000)))
    plan = plan_of("sweep=vicc_cross", "scale=smoke", f"grid.linear.seed=[{seeds}]")
    assert len([stage for stage in plan if stage.element == "linear-rgb"]) == 1000
    assert len([stage for stage in plan if stage.kind == "pretrain"]) == 6
    assert plan["linear-rgb.999"].config["seed"] == 999
    assert plan["linear-fused.999"].parents == ("linear-rgb.999", "linear-flow.999")
