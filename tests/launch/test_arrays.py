"""Packing: the usual shapes need few arrays, and each edge of them is told to Slurm exactly."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.slurm.arrays import MAX_INDEX_TEXT, Dependency, Place, expression, index_text, pack
from tests.launch.fake_slurm import read_indices
from tests.launch.packing import lanes_of, packed, plan, shape, stage
from tests.planning import plan_of


def test_a_chain_of_lanes_is_one_array_for_each_element() -> None:
    lanes = range(5)
    arrays = packed(
        plan(*lanes_of("a", lanes), *lanes_of("b", lanes, "a.{}"), *lanes_of("c", lanes, "b.{}", "a.{}")),
    )
    assert shape(arrays) == [("a", "0-4", ""), ("b", "0-4", "aftercorr:0"), ("c", "0-4", "aftercorr:1:0")]
    assert arrays[1].stages == {lane: f"b.{lane}" for lane in lanes}


def test_children_of_one_parent_are_one_array() -> None:
    assert shape(packed(plan(stage("a"), *lanes_of("b", range(40), "a")))) == [
        ("a", "0", ""),
        ("b", "0-39", "afterok:0_0"),
    ]


def test_a_stage_that_collects_lanes_names_each_of_them() -> None:
    arrays = packed(plan(*lanes_of("a", range(3)), stage("mean", ["a.0", "a.1", "a.2"])))
    assert shape(arrays) == [("a", "0-2", ""), ("mean", "0", "afterok:0_0:0_1:0_2")]


def test_stages_that_collect_different_lanes_are_an_array_each() -> None:
    means = [stage(f"mean.{lane}", [f"a.{lane}", f"a.{lane + 1}"], element="mean", lane=lane) for lane in (0, 2)]
    assert shape(packed(plan(*lanes_of("a", range(4)), *means))) == [
        ("a", "0-3", ""),
        ("mean", "0", "afterok:0_0:0_1"),
        ("mean", "2", "afterok:0_2:0_3"),
    ]


def test_a_shared_parent_beside_one_of_the_own_lane() -> None:
    arrays = packed(plan(stage("flow"), *lanes_of("a", range(3), "flow"), *lanes_of("b", range(3), "a.{}", "flow")))
    assert shape(arrays) == [
        ("flow", "0", ""),
        ("a", "0-2", "afterok:0_0"),
        ("b", "0-2", "aftercorr:1,afterok:0_0"),
    ]


@pytest.mark.parametrize(("parents", "children"), [(2, 5), (5, 2), (3, 3), (1, 6), (6, 1)])
def test_children_of_several_parents_need_the_smaller_number_of_arrays(parents: int, children: int) -> None:
    lanes = range(0, parents * children, children)
    below = [
        stage(f"b.{lane}", [f"a.{lane // children * children}"], element="b", lane=lane)
        for lane in range(parents * children)
    ]
    arrays = packed(plan(*lanes_of("a", lanes), *below))
    assert len(arrays) == 1 + min(parents, children)
    assert {one.type for one in arrays[1].dependency} == {"afterok" if parents <= children else "aftercorr"}


def test_what_hangs_below_several_arrays_of_one_element_is_as_many() -> None:
    """Seeds by learning rates, rates only below: a fused evaluation reads two of equal lanes."""
    seeds, lanes = range(0, 12, 2), range(12)
    both = [
        stage(f"{name}.{lane}", [f"{name}-weights.{lane // 2 * 2}"], element=name, lane=lane)
        for name in ("rgb", "flow")
        for lane in lanes
    ]
    arrays = packed(
        plan(
            *lanes_of("rgb-weights", seeds),
            *lanes_of("flow-weights", seeds, "rgb-weights.{}"),
            *both,
            *lanes_of("fused", lanes, "rgb.{}", "flow.{}"),
        )
    )
    assert shape(arrays) == [
        ("rgb-weights", "0-10:2", ""),
        ("flow-weights", "0-10:2", "aftercorr:0"),
        ("rgb", "0-10:2", "aftercorr:0"),
        ("rgb", "0-10:2", "aftercorr:0"),
        ("flow", "0-10:2", "aftercorr:1"),
        ("flow", "0-10:2", "aftercorr:1"),
        ("fused", "0-10:2", "aftercorr:2:4"),
        ("fused", "0-10:2", "aftercorr:3:5"),
    ]


def test_a_parent_of_the_lane_beside_one_of_the_seed() -> None:
    """The part that cannot align is named, the other one corresponds."""
    below = [
        stage(f"c.{lane}", [f"a.{lane // 3 * 3}", f"b.{lane}"], element="c", lane=lane) for lane in range(6)
    ]  # two seeds by three rates; `b` does not read `a`
    arrays = packed(plan(*lanes_of("a", (0, 3)), *lanes_of("b", range(6)), *below))
    assert shape(arrays)[2:] == [("c", "0-2", "aftercorr:1,afterok:0_0"), ("c", "3-5", "aftercorr:1,afterok:0_3")]


def test_what_cannot_align_waits_by_name() -> None:
    arrays = packed(plan(*lanes_of("a", (0, 1)), stage("b", ["a.0"]), stage("c", ["b", "a.1"])))
    assert shape(arrays) == [("a", "0,1", ""), ("b", "0", "afterok:0_0"), ("c", "0", "afterok:0_1:1_0")]


def test_other_resources_are_another_array() -> None:
    stages = [stage(f"a.{lane}", element="a", lane=lane, mem_gb=8 + lane % 2) for lane in range(4)]
    arrays = packed(plan(*stages, *lanes_of("b", range(4), "a.{}")))
    assert shape(arrays) == [
        ("a", "0,2", ""),
        ("a", "1,3", ""),
        ("b", "0,2", "aftercorr:0"),
        ("b", "1,3", "aftercorr:1"),
    ]


def test_elements_that_wait_for_each_other_by_turns() -> None:
    stages = [
        stage("a.0", element="a", lane=0),
        stage("b.0", ["a.0"], element="b", lane=0),
        stage("b.1", element="b", lane=1),
        stage("a.1", ["b.1"], element="a", lane=1),
        stage("a.2", ["a.1"], element="a", lane=2),
    ]
    arrays = packed(plan(*stages))
    assert [list(array.stages.values()) for array in arrays] == [["a.0"], ["b.0"], ["b.1"], ["a.1"], ["a.2"]]


def test_finished_parents_are_dropped_and_those_in_flight_keep_their_index() -> None:
    lanes = range(6)
    three = plan(*lanes_of("a", lanes), *lanes_of("b", lanes, "a.{}"), *lanes_of("c", lanes, "b.{}", "a.{}"))
    flying = {"a.2": Place("7", 40), "a.3": Place("7", 2), "b.1": Place("9", 5)}
    arrays = packed(three, finished={"a.0", "a.1", "b.0"}, in_flight=flying)
    assert [(array.key, dict(array.stages), array.dependency) for array in arrays] == [
        ("a/0", {4: "a.4", 5: "a.5"}, ()),
        ("b/0", {2: "b.3", 40: "b.2"}, (Dependency("aftercorr", "7", None),)),
        ("b/1", {4: "b.4", 5: "b.5"}, (Dependency("aftercorr", "a/0", None),)),
        ("c/0", {0: "c.0"}, ()),
        ("c/1", {1: "c.1"}, (Dependency("afterok", "9", 5),)),
        ("c/2", {2: "c.3", 40: "c.2"}, (Dependency("aftercorr", "b/0", None), Dependency("aftercorr", "7", None))),
        ("c/3", {4: "c.4", 5: "c.5"}, (Dependency("aftercorr", "b/1", None), Dependency("aftercorr", "a/0", None))),
    ]


def test_a_finished_parent_that_is_wanted_again_is_waited_for() -> None:
    two = plan(stage("a"), stage("b", ["a"]))
    arrays = pack(two, ["b", "a"], {"a"}, {})
    assert shape(arrays) == [("a", "0", ""), ("b", "0", "afterok:0_0")]


def test_what_cannot_be_packed_is_refused() -> None:
    two = plan(stage("a"), stage("b", ["a"]))
    with pytest.raises(ValueError, match="b waits for a: neither wanted, nor finished, nor in flight"):
        pack(two, ["b"], (), {})
    with pytest.raises(ValueError, match="b: wanted, and in flight already"):
        pack(two, ["b"], {"a"}, {"b": Place("3", 0)})
    with pytest.raises(ValueError, match="the plan has no stage c"):
        pack(two, ["c"], (), {})
    assert pack(two, [], (), {}) == []


def test_more_lanes_than_an_array_may_hold() -> None:
    lanes = range(25)
    arrays = packed(plan(*lanes_of("a", lanes), *lanes_of("b", lanes, "a.{}")), maximum=10)
    assert shape(arrays) == [
        ("a", "0-9", ""),
        ("a", "0-9", ""),
        ("a", "0-4", ""),
        ("b", "0-9", "aftercorr:0"),
        ("b", "0-9", "aftercorr:1"),
        ("b", "0-4", "aftercorr:2"),
    ]
    assert arrays[1].stages[3] == "a.13"


def test_a_list_of_indices_that_slurm_would_refuse_is_divided() -> None:
    """It takes 4,096 characters at most; the steps between these lanes alternate, so no range shortens the list."""
    lanes = [lane for lane in range(9000) if lane % 7 in (0, 3)]
    every = lanes_of("x", range(9000))
    arrays = packed(
        plan(*every, *lanes_of("a", lanes), *lanes_of("b", lanes, "a.{}")),
        finished={one.name for one in every},
        maximum=10_001,
    )
    assert all(len(array.indices) <= MAX_INDEX_TEXT for array in arrays)
    assert [array.element for array in arrays] == ["a"] * 4 + ["b"] * 4
    assert all(len(array.dependency) == 1 for array in arrays[4:])


@given(st.sets(st.integers(0, 60), min_size=1))
def test_indices_are_written_as_slurm_reads_them(indices: set[int]) -> None:
    assert read_indices(index_text(indices)) == sorted(indices)


def test_ranges_are_joined() -> None:
    assert index_text([3]) == "3"
    assert index_text([0, 1]) == "0,1"
    assert index_text([7, 0, 1, 2, 3, 10, 15, 20]) == "0-3,7,10-20:5"


def test_an_expression_names_job_ids() -> None:
    found = (Dependency("afterok", "15", 3), Dependency("aftercorr", "a/0", None), Dependency("aftercorr", "b/1", None))
    assert expression(found, {"a/0": "12", "b/1": "14"}) == "aftercorr:12:14,afterok:15_3"
    assert expression((), {}) == ""


def test_the_main_pipeline_is_an_array_for_each_stage() -> None:
    cross = plan_of("sweep=vicc_cross")
    arrays = packed(cross)
    assert [(array.element, array.indices) for array in arrays] == [(one.name, "0") for one in cross]


def test_a_grid_of_the_main_pipeline() -> None:
    """Three seeds by two learning rates of the probes; optical flow is shared by all."""
    cross = plan_of("sweep=vicc_cross", "grid.all.seed=[0,1,2]", "grid.linear.optim.base_lr=[0.1,0.3]")
    arrays = packed(cross)
    counts = {element: sum(array.element == element for array in arrays) for element in [one.element for one in cross]}
    assert {element for element, count in counts.items() if count == 2} == {"linear-rgb", "linear-flow", "linear-fused"}
    assert set(counts.values()) == {1, 2}
    ids = {array.key: array.key for array in arrays}
    (cross2,) = [array for array in arrays if array.element == "cross2-flow"]
    assert expression(cross2.dependency, ids) == "aftercorr:cross1-flow/0:cross2-rgb/0,afterok:flow/0_0"
    assert list(cross2.stages) == [0, 2, 4]


def test_the_same_line_after_half_of_a_grid_is_done() -> None:
    cross = plan_of("sweep=vicc_cross", "grid.all.seed=[0,1,2,3]")
    done = {one.name for one in cross if one.lane in (None, 0, 1)}
    runs = {f"{element}.2": Place("70", 2) for element in ("single-rgb",)}
    arrays = packed(cross, finished=done, in_flight=runs)
    assert len(arrays) <= 2 * len({array.element for array in arrays})
    assert {index for array in arrays for index in array.stages} == {2, 3}


def test_f1_a_thousand_stages_in_four_arrays() -> None:
    lanes = range(250)
    names = ("a", "b", "c", "d")
    stages = [
        one
        for above, name in zip(("", *names), names)
        for one in lanes_of(name, lanes, *([f"{above}.{{}}"] if above else []))
    ]
    arrays = packed(plan(*stages))
    assert shape(arrays) == [
        ("a", "0-249", ""),
        ("b", "0-249", "aftercorr:0"),
        ("c", "0-249", "aftercorr:1"),
        ("d", "0-249", "aftercorr:2"),
    ]


def test_f2_a_thousand_kinds_of_resources_are_a_thousand_arrays() -> None:
    stages = [
        stage(
            f"{name}.{lane}",
            [f"{above}.{lane}"] if above else [],
            element=name,
            lane=lane,
            mem_gb=1 + number * 250 + lane,
        )
        for number, (name, above) in enumerate((("a", ""), ("b", "a"), ("c", "a"), ("d", "c")))
        for lane in range(250)
    ]
    assert len(packed(plan(*stages))) == 1000


def test_ten_thousand_stages_are_packed_at_once() -> None:
    """Seeds by rates, chained, with a stage that collects them all."""
    seeds, lanes = range(0, 2000, 4), range(2000)
    stages = [*lanes_of("a", seeds), *lanes_of("b", seeds, "a.{}"), stage("first")]
    stages += [stage(f"c.{lane}", [f"b.{lane // 4 * 4}", "first"], element="c", lane=lane) for lane in lanes]
    for name, above in (("d", "c"), ("e", "d"), ("f", "e")):
        stages += lanes_of(name, lanes, f"{above}.{{}}", "first")
    stages += [stage("mean", [one.name for one in stages if one.element == "f"])]
    whole = plan(*stages)
    began = time.process_time()
    arrays = pack(whole, [one.name for one in whole], (), {})
    assert time.process_time() - began < 10, "what grows with their square would take minutes"
    assert len(arrays) == 2 + 2 + 1 + 2 * 4 * 4 + 1  # indices below and above 1,001; four rates of each seed
