import pytest

from launch.planning.selection import select, without_absent
from tests.planning import plan_of
from vssl.config import ConfigError

PLAN = plan_of("sweep=vicc_cross", "grid.linear.optim.base_lr=[0.1,0.3]")
EVERYTHING = frozenset(stage.name for stage in PLAN)


def test_everything_is_selected_and_nothing_forced_unless_said() -> None:
    assert select(PLAN).run == EVERYTHING
    assert select(PLAN).force == frozenset()


@pytest.mark.parametrize(
    ("selector", "meant"),
    [
        ("linear-rgb.1", {"linear-rgb.1"}),
        ("linear-rgb", {"linear-rgb.0", "linear-rgb.1"}),
        ("linear", {"linear-rgb.0", "linear-rgb.1", "linear-flow.0", "linear-flow.1"}),
        ("cross-rgb", {"cross1-rgb", "cross2-rgb"}),
        ("flow", {"flow"}),
        ("all", EVERYTHING),
    ],
)
def test_a_selector_is_a_stage_else_its_lanes_else_a_template_else_all(selector: str, meant: set[str]) -> None:
    assert select(PLAN, only=[selector]).run == meant
    assert select(PLAN, force=[selector]).force == meant


def test_from_takes_what_lies_below_and_until_what_lies_above() -> None:
    below = select(PLAN, from_=["cross2-flow"]).run
    assert "cross2-flow" in below
    assert {"linear-flow.0", "linear-fused.1", "retrieval-fused"} <= below
    assert not {"cross2-rgb", "linear-rgb.0", "untrained-linear-flow"} & below
    above = select(PLAN, until=["cross1-flow"]).run
    assert above == {"flow", "single-rgb", "single-flow", "cross1-rgb", "cross1-flow"}


def test_selectors_narrow_each_other() -> None:
    chain = select(PLAN, from_=["cross1-rgb"], until=["cross2-flow"]).run
    assert chain == {"cross1-rgb", "cross1-flow", "cross2-rgb", "cross2-flow"}
    assert select(PLAN, only=["single", "cross-flow"], until=["cross1-flow"]).run == {
        *("single-rgb", "single-flow", "cross1-flow"),
    }
    assert select(PLAN, only=["linear"], force=["linear-rgb", "single"]).force == {"linear-rgb.0", "linear-rgb.1"}


def test_stages_of_data_that_is_nowhere_are_left_out_where_nothing_needs_them() -> None:
    plan = plan_of("sweep=fgkvmem_ucf101")
    (absent,) = (key for key, dataset in plan.datasets.items() if dataset["name"] == "hmdb51")
    less = without_absent(plan, select(plan, only=["pretrain"]).run, [absent])
    assert set(plan.by_name) - set(less.by_name) == {name for name in plan.by_name if "hmdb51" in name}
    assert set(plan.datasets) - set(less.datasets) == {absent}
    below = select(plan, only=["multiview-hmdb51-byol-r21d"]).run
    assert without_absent(plan, below, [absent]) is plan
    assert without_absent(plan, select(plan, only=["pretrain"]).run, []).by_name == plan.by_name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"only": ["linear-rbg"]}, "only: no stage is named `linear-rbg`.*did you mean `linear-rgb`"),
        ({"force": ["linear-rgb.2"]}, "no stage is named `linear-rgb.2`"),
        ({"only": ["single"], "from_": ["linear"]}, "leave no stage"),
        ({"only": ["single"], "force": ["linear"]}, "force=linear names no stage that is to run"),
    ],
)
def test_a_selector_that_means_nothing_is_refused(words: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select(PLAN, **words)  # type: ignore[arg-type]
