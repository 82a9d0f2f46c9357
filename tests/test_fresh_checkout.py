"""A checkout that nobody installed, and the debugger in it."""

import json
import shutil
from pathlib import Path

import pytest

from launch.planning.planner import CHECKOUT
from launch.provenance import code_digest
from tests.lines import SMOKE, MainLine, files, run_here, run_line
from vssl.artifacts import read_json


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository whose code differs from that of this process, and so can be told from it."""
    copy = tmp_path_factory.mktemp("copies") / "checkout"
    for name in ("launch", "vssl", "configs", "sweeps", "slurm_templates"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    loss = copy / "vssl" / "losses" / "swapped_prediction.py"
    text = loss.read_text()
    place = "    if len(scores) < 2 or "
    assert text.count(place) == 1
    loss.write_text(text.replace(place, "    breakpoint()\n" + place))
    return copy


def test_a_fresh_checkout_runs_without_an_install_from_its_folder_and_from_the_root(checkout: Path) -> None:
    """As the documentation types it: by a relative path, into the store of the checkout."""
    words = ("sweep=vicc_single", *SMOKE, "only=untrained-retrieval-rgb")
    said = run_line(*words, cwd=checkout, entry=Path("launch/pipeline.py"))
    assert said.code == 0, said.out + said.err
    assert said.stages("done in") == ["untrained-retrieval-rgb"]
    (attempt,) = (checkout / "runs" / "stages").glob("*/attempts/1.json")
    assert read_json(attempt)["code"] != code_digest(), "the stage ran the copy's code"  # type: ignore[index]

    said = run_line(*words, entry=checkout / "launch" / "pipeline.py")
    assert said.stages("finished before") == ["untrained-retrieval-rgb"]
    said = run_line("status", "--json", entry=checkout / "launch" / "cli.py")
    states = {stage["name"]: stage["state"] for stage in json.loads(said.out)["stages"]}
    assert states["untrained-retrieval-rgb"] in ("done", "reused")
    assert states["single-rgb"] == "waiting"


def test_debug_stops_in_a_breakpoint_in_the_loss_and_never_touches_the_real_stage(
    main_line: MainLine, checkout: Path
) -> None:
    store, folder = main_line.root, main_line.folder("single-rgb")
    before = files(store / "stages")
    said = run_line(
        *("sweep=vicc_cross", "scale=smoke", "executor=debug", "only=single-rgb", f"root={store}"),
        entry=checkout / "launch" / "pipeline.py",
        input="p 'scores', [tuple(one.shape) for one in scores]\nwhere\nimport os; os._exit(7)\n",
    )
    assert said.code == 7, said.out + said.err
    assert "(Pdb) ('scores', [(4, 8), (4, 8)])" in said.out
    assert "swapped_prediction.py" in said.out
    assert "launch/executors/debug.py" in said.out, "in the process of the line itself"
    assert files(store / "stages") == before
    assert folder.done.exists()
    assert (store / "debug" / folder.root.name).is_dir()


def test_debug_reads_parents_from_the_store_and_leaves_the_real_stage_alone(main_line: MainLine) -> None:
    store = main_line.root
    before = files(store / "stages")
    said = run_here("sweep=vicc_cross", "scale=smoke", "executor=debug", "only=cross1-rgb", f"root={store}")
    assert said.code == 0, said.out + said.err
    assert "cross1-rgb: loss_first" in said.out
    assert files(store / "stages") == before
