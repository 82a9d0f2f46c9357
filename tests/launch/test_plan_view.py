import io

from rich.console import Console

from launch.plan_view import print_plan, requests
from launch.selection import select
from tests.planning import plan_of

PLAN = plan_of("sweep=vicc_cross", "grid.linear.optim.base_lr=[0.1,0.3]", digest=lambda _: None)


def shown(*only: str, done: frozenset[str] = frozenset()) -> str:
    stream = io.StringIO()
    print_plan(PLAN, select(PLAN, only=only), done, Console(file=stream, width=200))
    return stream.getvalue()


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
    assert asked.path[6:] == ("linear-flow.0", "linear-fused.0")
    assert asked.path_hours == 24 + 38 * 5 + 8 + 1


def test_lanes_of_a_stage_share_a_line() -> None:
    text = shown()
    (line,) = [row for row in text.splitlines() if row.startswith("linear-rgb ")]
    assert "weights=cross2-rgb" in line
    assert line.split()[5] == "2"
    assert "22 jobs in 19 arrays" in text
    assert "dataset ucf101 (no path given yet) is not prepared" in text


def test_a_part_says_what_it_leaves_out_and_what_is_done() -> None:
    text = shown("single", done=frozenset({"single-rgb"}))
    assert "2 jobs in 2 arrays (20 left out)" in text
    (line,) = [row for row in text.splitlines() if row.startswith("single-rgb ")]
    assert line.rstrip().endswith("done")
