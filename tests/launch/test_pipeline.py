import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.executors import local, slurm
from launch.pipeline import main
from launch.planning.command_line import FLAGS, KEYS
from launch.planning.planner import CHECKOUT

ENTRY = str(CHECKOUT / "launch" / "pipeline.py")

# Every line of the documentation that plans, as it is typed.
LINES = [
    ["sweep=vicc_cross"],
    ["sweep=vicc_cross", "scale=smoke"],
    ["sweep=vicc_cross", "scale=demo"],
    ["sweep=vicc_single"],
    ["sweep=vicc_cross", "executor=debug", "only=cross1-rgb"],
    [
        *("sweep=vicc_cross", "cluster=a100", "grid.linear.optim.base_lr=[0.1,0.3]", "grid.all.seed=[0,1,2]"),
        "stages.linear.optim.weight_decay=1e-4",
    ],
    ["sweep=vicc_cross", "from=cross1-rgb"],
    ["sweep=vicc_cross", "until=cross1-rgb"],
    ["sweep=vicc_cross", "only=[single-rgb,linear-rgb]"],
    ["sweep=vicc_cross", "force=retrieval-rgb"],
    ["sweep=vicc_cross", "grid.linear.optim.base_lr=[0.1,0.3]", "only=linear-rgb.1"],
    ["sweep=vicc_cross", "grid.all.backbone=[s3d,tiny]"],
    ["sweep=vicc_cross", "stages.cross2-rgb.epochs=50", "stages.cross-flow.epochs=60"],
    ["sweep=vicc_cross", "data=/data/videos"],
    ["sweep=vicc_cross", "stages.all.data.dataset.path=/data/ucf101"],
]


def run(words: list[str], cwd: Path, root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The line as a person types it: no install, no PYTHONPATH, no help from the working directory."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SLURM_JOB_ID")}
    return subprocess.run(
        [sys.executable, ENTRY, *words],
        cwd=cwd,
        env={**clean, "VSSL_ROOT": str(root), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_every_documented_line_plans(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("VSSL_ROOT", str(tmp_path / "root"))
    assert main([*words, "action=plan"]) == 0
    assert "critical path" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cwd", ["/", str(CHECKOUT), str(CHECKOUT / "launch")])
def test_a_line_works_from_any_folder_without_an_install(cwd: str, tmp_path: Path) -> None:
    done = run(["sweep=vicc_cross", "action=plan"], Path(cwd), tmp_path / "root")
    assert (done.returncode, done.stderr) == (0, "")
    assert "cross2-flow" in done.stdout
    assert "24 jobs in 24 arrays" in done.stdout


def test_a_plan_writes_nothing_at_all(tmp_path: Path) -> None:
    cwd = tmp_path / "here"
    cwd.mkdir()
    done = run(["sweep=vicc_cross", "action=plan", "scale=smoke"], cwd, tmp_path / "root", HOME=str(cwd))
    assert done.returncode == 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["here"]


def test_a_plan_leaves_the_heavy_packages_unloaded(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); from launch.pipeline import main\n"
        "assert main(['sweep=vicc_cross', 'action=plan', 'root=root']) == 0\n"
        "heavy = {'torch', 'torchvision', 'mlflow', 'pandas', 'av', 'numpy', 'submitit', 'cv2', 'sklearn'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep=vicc_cros"], "did you mean `vicc_cross`"),
        (["sweep=sweeps/nothing.yaml"], "/sweeps/nothing.yaml; give an existing file, or a name"),
        (["sweep=vicc_cross", "scale=smok"], "did you mean `smoke`"),
        (["sweep=vicc_cross", "cluster=a10"], "did you mean `a100`"),
        (["sweep=vicc_cross", "action=preflght"], "accepted: submit, plan, preflight, render"),
        (["sweep=vicc_cross", "executor=slum"], "accepted: auto, slurm, local, debug"),
        (["sweep=vicc_cross", "grid.linear.optim.base_lr=0.1,0.3"], "'grid.linear.optim.base_lr=[0.1,0.3]'"),
        (["sweep=vicc_cross", "grid.linear.optim.base_lrr=[1]"], "did you mean `optim.base_lr`"),
        (["sweep=vicc_cross", "only=liner"], "did you mean `linear`"),
        (["sweep=vicc_cross", "store.read=[/nowhere]"], "no folder /nowhere"),
        (["sweep=vicc_cross", "executor=local"], "dataset ucf101 has no path on this machine"),
    ],
)
def test_bad_input_ends_with_code_2_a_remedy_and_nothing_written(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VSSL_ROOT", str(tmp_path / "root"))
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_before_any_stage_has_started_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("launch.pipeline.make_plan", interrupted)
    words = ["sweep=vicc_single", f"root={tmp_path}"]
    assert main([*words, "executor=local"]) == 75
    assert capfd.readouterr().err == "stopped; the same line goes on from here\n"
    with pytest.raises(KeyboardInterrupt):  # a debugger is told where
        main([*words, "executor=debug"])


def test_inside_an_allocation_auto_asks_what_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert main(["sweep=vicc_cross", "scale=smoke", f"root={tmp_path / 'root'}"]) == 2
    assert "inside allocation 77" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "usage: python launch/pipeline.py sweep=NAME" in said
    assert all(key in said for key in (*KEYS, *FLAGS, "preflight", "slurm"))


def test_where_slurm_is_auto_submits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    asked: list[Any] = []
    monkeypatch.setattr(slurm, "execute", lambda *words, **options: asked.append((words, options)) or 75)
    words = ["sweep=vicc_cross", "scale=smoke", "until=single-rgb", f"root={tmp_path / 'root'}", "--follow"]
    assert main(words) == 75
    assert "executor=slurm, because there is an sbatch" in capsys.readouterr().err
    [((_, chosen, store), options)] = asked
    assert (chosen, store.visibility_s) == (["single-rgb"], 90.0)
    assert options["follow"]
    assert options["profile"].name == "default"
    assert main([*words, "store.visibility_s=2"]) == 75
    assert asked[1][0][2].visibility_s == 2.0


def test_reading_a_dataset_is_no_work_for_a_login_node_unless_somebody_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "my videos"
    words = ["sweep=vicc_single", "executor=slurm", f"data={videos}/", f"root={tmp_path / 'root'}"]
    assert main(words) == 2
    assert f"first run: vssl prepare '{videos}' --root {tmp_path / 'root'}" in capsys.readouterr().err
    assert not (tmp_path / "root").exists()


def test_a_dataset_that_is_not_here_stops_nobody_who_does_not_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(local, "execute", lambda *words, **_: asked.append(words) or 0)
    words = ["sweep=fgkvmem_ucf101", "scale=smoke", "executor=local", f"root={tmp_path / 'root'}"]
    assert main([*words, "only=pretrain-byol-r3d18"]) == 0
    [(plan, chosen, _)] = asked
    assert chosen == ["pretrain-byol-r3d18"]
    assert "linear-ucf101-byol-r3d18" in plan.by_name, "the rest of what can be made is in the pipeline all the same"
    assert not [name for name in plan.by_name if "hmdb51" in name]
    for needs_it in ([], ["only=linear-hmdb51-byol-r3d18"]):
        assert main([*words, *needs_it]) == 2
        assert "dataset hmdb51 has no path on this machine" in capsys.readouterr().err


def test_a_folder_that_is_gone_is_no_place_to_run_from(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f"cd {gone} && rmdir {gone} && {sys.executable} {ENTRY} sweep=vicc_cross action=plan"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "change to another one" in done.stderr
