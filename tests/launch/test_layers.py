"""Which of several values a stage gets: the nearer scope, the later layer, one member of a group at a time."""

from pathlib import Path

from tests.planning import CHAIN, plan_of, plan_text


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
