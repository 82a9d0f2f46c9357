"""A published dataset as a person uses it: `vssl prepare`, then the line that trains on it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from launch.planner import CHECKOUT
from tests import miniatures
from tests.lines import SMOKE, run_here, run_line
from vssl.artifacts import read_json

CLI = CHECKOUT / "launch" / "cli.py"


@pytest.mark.parametrize(
    ("data", "make", "only"),
    [
        ("ucf101", miniatures.ucf101, "[single-rgb,untrained-retrieval-rgb]"),
        ("hmdb51", miniatures.hmdb51, "[single-rgb,untrained-retrieval-rgb]"),
        ("kinetics400", miniatures.kinetics, "single-rgb"),
        ("something_something_v2", miniatures.something_something, "single-rgb"),
        ("penn_action", miniatures.penn_action, "single-rgb"),
    ],
)
def test_from_the_published_folder_to_a_trained_network(
    data: str, make: Callable[[Path], Path], only: str, tmp_path: Path
) -> None:
    videos, store = make(tmp_path / "videos"), tmp_path / "store"
    said = run_line("prepare", data, "--path", str(videos), "--root", str(store), entry=CLI)
    assert said.code == 0, said.err
    assert f"{data}: " in said.out
    line = ("sweep=vicc_single", *SMOKE, f"data={data}", f"stages.all.data.dataset.path={videos}", f"only={only}")
    trained = run_here(*line, f"root={store}")
    assert trained.code == 0, trained.out + trained.err
    assert "preparing dataset" not in trained.out, "what was prepared by name is what the line reads"
    assert trained.stages("done in") == sorted(only.strip("[]").split(","))


def test_a_folder_with_lists_of_any_kind(tmp_path: Path) -> None:
    videos, store = miniatures.any_list(tmp_path / "videos"), tmp_path / "store"
    said = run_line("prepare", str(videos), "--root", str(store), entry=CLI)
    assert said.code == 0, said.err
    (record,) = (read_json(path) for path in (store / "sources").glob("*/source.json"))
    assert record["layout"] == "lists"
    assert record["splits"] == {"train": 4, "test": 2}
    line = ("sweep=vicc_single", *SMOKE, f"data={videos}", "only=[single-rgb,untrained-linear-rgb]")
    trained = run_here(*line, f"root={store}")
    assert trained.code == 0, trained.out + trained.err
    assert trained.stages("done in") == ["single-rgb", "untrained-linear-rgb"]
