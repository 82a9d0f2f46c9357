"""Scripts for reading: the very text that a submission sends, and nothing else happens."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.executors.slurm import script_text
from launch.plan import Plan, PlannedStage
from launch.slurm.profiles import Profile
from launch.slurm.render import render
from launch.slurm.snapshot import snapshot_path
from launch.store import Store
from tests.planning import plan_of
from vssl.config import ConfigError

PROFILE = Profile(name="lab", parameters={"partition": "gpu"}, setup=("module load cuda",))


def rendered(store: Store) -> dict[str, Path]:
    (folder,) = (store.root / "debug").iterdir()
    return {path.name.partition("-")[2]: path for path in sorted(folder.iterdir())}


def test_every_array_has_its_script_and_elements(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of("sweep=vicc_single", "grid.linear.optim.base_lr=[0.1,0.3]")
    assert render(plan, [stage.name for stage in plan], store, profile=PROFILE) == 0
    found = rendered(store)
    assert set(found) == {stage.element for stage in plan}
    linear = found["linear-rgb"]
    record = json.loads((linear / "elements.json").read_text())
    assert {one["name"] for one in record["elements"].values()} == {"linear-rgb.0", "linear-rgb.1"}
    script = (linear / "script.sh").read_text()
    single = found["single-rgb"].name
    assert re.search(rf"^#SBATCH --dependency=after(ok|corr):ID_OF_{single}(_\d+)?$", script, re.MULTILINE)
    assert record["slurm"]["dependency"] in script
    assert "module load cuda" in script
    expected = script_text(
        linear,
        plan["linear-rgb.0"].resources,
        PROFILE,
        indices=[int(index) for index in record["elements"]],
        dependency=record["slurm"]["dependency"],
        snapshot=snapshot_path(store),
    )
    assert script == expected
    assert [path.name for path in store.root.iterdir()] == ["debug"], "nothing else was written"
    assert "nothing was submitted" in capsys.readouterr().out


def test_what_is_finished_is_left_out_unless_it_is_forced(
    store: Store, chain: Plan, run_stage: Callable[..., int]
) -> None:
    run_stage(chain, "first")
    names = [stage.name for stage in chain]
    render(chain, names, store, profile=PROFILE)
    assert set(rendered(store)) == {"second"}
    assert "--dependency" not in (rendered(store)["second"] / "script.sh").read_text()
    render(chain, names, store, profile=PROFILE, force=["first"])
    assert set(rendered(store)) == {"first", "second"}, "made anew"


def test_a_part_whose_parents_are_missing_is_refused(store: Store, chain: Plan) -> None:
    with pytest.raises(ConfigError, match="second waits for first"):
        render(chain, ["second"], store, profile=PROFILE)
    assert not store.root.exists()


def test_a_folder_of_ones_own(
    store: Store, make_plan: Callable[..., Plan], stage: Callable[..., PlannedStage], tmp_path: Path
) -> None:
    render(make_plan(stage("one")), ["one"], store, profile=PROFILE, folder=tmp_path / "here")
    assert (tmp_path / "here" / "01-one" / "script.sh").exists()
    assert not store.root.exists()
