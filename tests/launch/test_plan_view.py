import io
from collections.abc import Callable

import pytest
from rich.console import Console

from launch.plan import Plan, PlannedStage
from launch.planning.selection import select
from launch.provenance import code_digest
from launch.store import Finished
from launch.verbs.plan_view import print_plan, requests
from tests.planning import plan_of
from vssl.artifacts import StageFolder

PLAN = plan_of("sweep=vicc_cross", "grid.linear.optim.base_lr=[0.1,0.3]", digest=lambda _: None)


def finished(*names: str, code: str | None = None) -> dict[str, Finished]:
    record = {"code": code or code_digest(), "earlier_code": []}
    return {name: Finished(StageFolder(PLAN[name].folder), record) for name in names}  # type: ignore[arg-type]


def shown(plan: Plan = PLAN, done: dict[str, Finished] | None = None, mermaid: bool = False, **parts: object) -> str:
    stream = io.StringIO()
    selection = select(plan, **parts)  # type: ignore[arg-type]
    print_plan(plan, selection, done or {}, Console(file=stream, width=200), mermaid=mermaid)
    return stream.getvalue()


def row(text: str, element: str) -> str:
    (line,) = [line for line in text.splitlines() if element in line.lstrip("│├└─ ").split(" ")[:1]]
    return line


def test_requests_are_limits_times_what_is_held() -> None:
    asked = requests(PLAN, {"single-rgb", "cross1-rgb", "linear-rgb.0", "linear-rgb.1"})
    assert (asked.stages, asked.arrays) == (4, 3)
    assert asked.gpu_hours == 38 * 4 + 38 * 4 + 8 + 8
    assert asked.cpu_hours == 38 * 48 * 2 + 8 * 12 * 2
    assert asked.path == ("single-rgb", "cross1-rgb")
    assert asked.path_hours == 76


def test_the_critical_path_is_the_longest_chain_of_limits() -> None:
    asked = requests(PLAN, select(PLAN).run)
    assert asked.path[:6] == ("flow", "single-flow", "cross1-rgb", "cross1-flow", "cross2-rgb", "cross2-flow")
    assert asked.path[6:] == ("finetune-flow", "tencrop-flow", "tencrop-fused")
    assert asked.path_hours == 24 + 38 * 5 + 20 + 8 + 1


def test_arrays_are_counted_as_they_are_submitted(
    make_plan: Callable[..., Plan], stage: Callable[..., PlannedStage]
) -> None:
    """Stages of one name that ask for different machines cannot share an array."""
    lanes = [stage(f"probe{number}", seed=number, resources={"mem_gb": 8.0 + number}) for number in range(3)]
    plan = make_plan(*(PlannedStage(**{**vars(one), "element": "probe"}) for one in lanes))
    assert requests(plan, {one.name for one in plan}).arrays == 3


def test_each_stage_hangs_below_the_parent_that_it_waits_for_longest() -> None:
    text = shown()
    depth = {name: row(text, name).index(name) for name in ("flow", "single-flow", "cross1-rgb", "linear-fused")}
    assert depth == {"flow": 0, "single-flow": 3, "cross1-rgb": 6, "linear-fused": 21}
    names = [line.lstrip("│├└─ ").split()[0] for line in text.splitlines()[1:25]]
    assert set(names) == {stage.element for stage in PLAN}
    assert names[:4] == ["flow", "single-flow", "cross1-rgb", "cross1-flow"]


def test_a_terminal_without_line_drawing_gets_a_tree_all_the_same() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    print_plan(PLAN, select(PLAN), {}, Console(file=stream, width=200))
    stream.seek(0)
    assert "|  `- cross1-rgb " in stream.read()


def test_lanes_of_a_stage_share_a_line() -> None:
    text = shown()
    line = row(text, "linear-rgb")
    assert "weights=cross2-rgb" in line
    assert line.split("..")[1].split()[0] == "2"
    assert "27 jobs in 24 arrays;" in text
    assert "dataset ucf101 (no path given yet) is not prepared" in text


def test_a_part_says_what_it_leaves_out_and_what_is_done() -> None:
    text = shown(done=finished("single-rgb"), only=["single"])
    assert "1 job in 1 array (1 done, 25 left out)" in text
    assert row(text, "single-rgb").rstrip().endswith("done")
    assert "critical path, at the limits: 38 h: single-flow" in text


def test_what_is_forced_is_asked_for_although_it_is_done() -> None:
    text = shown(done=finished("single-rgb", "single-flow"), only=["single"], force=["single-rgb"])
    assert "1 job in 1 array (1 done, 25 left out)" in text
    assert not row(text, "single-rgb").rstrip().endswith("done")


def test_results_of_other_code_are_marked() -> None:
    old = finished("single-rgb", "linear-rgb.0", code="another")
    text = shown(done=old | finished("linear-rgb.1"))
    assert row(text, "single-rgb").rstrip().endswith("done, made by other code")
    assert row(text, "linear-rgb").rstrip().endswith("done, 1 made by other code")


def test_with_everything_done_nothing_is_asked_for() -> None:
    text = shown(done=finished("single-rgb", "single-flow"), only=["single"])
    assert "0 jobs in 0 arrays (2 done, 25 left out); at their limits 0 min of GPU" in text
    assert "critical path" not in text


def test_a_mermaid_diagram_has_a_box_for_each_name_and_an_arrow_for_each_edge() -> None:
    lines = shown(mermaid=True, done=finished("flow")).splitlines()
    assert lines[0] == "flowchart LR"
    boxes = {line.split('["')[1].split("<br/>")[0]: line.split("[")[0].strip() for line in lines if '["' in line}
    assert len(boxes) == 24
    assert "linear-rgb x 2" in boxes
    assert f"  {boxes['cross1-rgb']} -- second --> {boxes['cross1-flow']}" in lines
    assert [line for line in lines if line.endswith(":::done")] == [
        f'  {boxes["flow"]}["flow<br/><small>flow</small>"]:::done'
    ]
    edges = {(stage.element, PLAN[name].element) for stage in PLAN for name in stage.parents}
    assert sum("-->" in line for line in lines) == len(edges)


def test_order_without_data_is_a_dashed_arrow(
    make_plan: Callable[..., Plan], stage: Callable[..., PlannedStage]
) -> None:
    first = stage("first", seed=1)
    second = PlannedStage(**{**vars(stage("second", seed=2)), "after": ("first",)})
    assert "  s0 -.-> s1" in shown(make_plan(first, second), mermaid=True)


@pytest.mark.parametrize("word", ["end", "graph", "subgraph"])
def test_names_are_no_words_of_the_diagram(
    word: str, make_plan: Callable[..., Plan], stage: Callable[..., PlannedStage]
) -> None:
    assert f'  s0["{word}<br/>' in shown(make_plan(stage(word)), mermaid=True)
