"""A published dataset as a person uses it: `vssl prepare`, then the line that trains on it."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from launch.planning.marked_yaml import load_plain
from launch.planning.planner import CHECKOUT
from tests import miniatures
from tests.lines import SMOKE, run_here, run_line
from vssl.artifacts import read_json

CLI = CHECKOUT / "launch" / "cli.py"
BOTH = ["single-rgb", "untrained-retrieval-rgb"]
ONE_FRAME = ("stages.all.data.num_frames=1", "stages.all.data.sampling.name=segments")  # an image is such a video
FEW = ("stages.all.data.dataset.subset=true",)  # classes, on purpose

# name of the dataset -> what makes its miniature, the stages to run, what else the line says
CASES: dict[str, tuple[Callable[[Path], Path], list[str], tuple[str, ...]]] = {
    "ucf101": (miniatures.ucf101, BOTH, ()),
    "ucf101_split2": (miniatures.ucf101, ["single-rgb"], ()),
    "ucf101_split3": (miniatures.ucf101, ["single-rgb"], ()),
    "hmdb51": (miniatures.hmdb51, BOTH, FEW),
    "hmdb51_split2": (miniatures.hmdb51, ["single-rgb"], FEW),
    "hmdb51_split3": (miniatures.hmdb51, ["single-rgb"], FEW),
    "kinetics400": (miniatures.kinetics, ["single-rgb"], ()),
    "kinetics600": (miniatures.kinetics, ["single-rgb"], ()),
    "something_something_v2": (miniatures.something_something, ["single-rgb"], ()),
    "penn_action": (miniatures.penn_action, ["single-rgb"], ()),
    "pouring": (miniatures.pouring, ["single-rgb"], ()),
    "finegym99": (miniatures.finegym_pickles, ["single-rgb"], ()),
    "finegym288": (partial(miniatures.finegym_pickles, classes=288), ["single-rgb"], ()),
    "finegym99_annotations": (partial(miniatures.finegym, more=3), ["single-rgb"], ()),
    "finegym288_annotations": (partial(miniatures.finegym, classes=288, more=3), ["single-rgb"], ()),
    "imagenet": (miniatures.imagenet, BOTH, ("stages.all.data.test_split=val", *ONE_FRAME)),
}


@pytest.mark.parametrize("data", CASES)
def test_from_the_published_folder_to_a_trained_network(data: str, tmp_path: Path) -> None:
    make, stages, more = CASES[data]
    videos, store = make(tmp_path / "videos"), tmp_path / "store"
    settings = [setting.rpartition("dataset.")[2] for setting in more if ".dataset." in setting]
    said = run_line("prepare", data, *settings, "--path", str(videos), "--root", str(store), entry=CLI)
    assert said.code == 0, said.err
    assert f"{data}: " in said.out
    only = f"only=[{','.join(stages)}]"
    line = ("sweep=vicc_single", *SMOKE, f"data={data}", f"data.{data}={videos}", only, *more)
    trained = run_here(*line, f"root={store}")
    assert trained.code == 0, trained.out + trained.err
    assert "preparing dataset" not in trained.out, "what was prepared by name is what the line reads"
    assert trained.stages("done in") == stages


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


def test_the_readme_has_a_line_for_every_dataset() -> None:
    lines = re.findall(r"`vssl prepare (\w+) --path /data/\w+`", (CHECKOUT / "README.md").read_text())
    files = (CHECKOUT / "configs" / "data").glob("*.yaml")
    settings = {path.stem: load_plain(path)["dataset"] for path in files}
    assert set(lines) == {name for name, one in settings.items() if not {"generated", "generated_images"} & set(one)}
