"""Axes of a grid: which lanes they make, what lanes share, and what is collected from them again."""

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launch.planning.grid import lanes, read_axes
from tests.planning import CHAIN, names, plan_of, plan_text
from vssl.config import ConfigError


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
