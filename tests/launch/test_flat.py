"""Flat sweeps by Hydra's multirun: the same profiles, the same store, the same ids."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.flat import _resources, _site, main
from launch.plan import Resources
from launch.provenance import CHECKOUT
from launch.store import Store
from tests.planning import plan_text

ENTRY = CHECKOUT / "launch" / "flat.py"


def flat(cwd: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VSSL_ROOT")}
    return subprocess.run(
        [sys.executable, str(ENTRY), *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_sweep_here_enters_the_store_under_the_ids_of_pipelines(tmp_path: Path) -> None:
    root, cwd = tmp_path / "root", tmp_path / "here"
    cwd.mkdir()
    done = flat(cwd, "-m", "kind=probe", "seed=0,1", "steps=2", f"root={root}")
    assert done.returncode == 0, done.stderr
    assert list(cwd.iterdir()) == []
    text = "stages: [{name: probe, kind: probe}]"
    plan = plan_text(tmp_path, text, "grid.probe.seed=[0,1]", "stages.probe.steps=2")
    assert set(Store(root, visibility_s=0).reusable_stages(plan)) == {"probe.0", "probe.1"}
    again = flat(cwd, "-m", "kind=probe", "seed=0,1,2", "steps=2", f"root={root}")
    assert again.returncode == 0
    assert again.stdout.count("is done already") == 2


def test_submitit_runs_each_in_a_process_of_its_own(tmp_path: Path) -> None:
    root = tmp_path / "it's a root"
    done = flat(tmp_path, "-m", "hydra/launcher=submitit_local", "kind=probe", "seed=0,1", f"root={root}")
    assert done.returncode == 0, done.stderr
    hosts = {json.loads(path.read_text())["process"]["pid"] for path in root.glob("stages/*/attempts/1.json")}
    assert len(hosts) == 2
    assert len(list(root.glob("stages/*/done.json"))) == 2


def test_a_stage_that_fails_is_told(tmp_path: Path) -> None:
    done = flat(tmp_path, "-m", "kind=probe", "fail_at=1", f"root={tmp_path / 'root'}")
    assert done.returncode == 1
    assert "ended with exit code 1" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["kind=prob"], "kind is `prob` (did you mean `probe`?)"),
        (["seed=0,1"], "accepted: transcode, flow, pretrain"),
        (["kind=probe", "cluster=a100"], "cluster= goes with hydra/launcher=submitit_slurm"),
        (["kind=probe", "resources=cpuu"], "did you mean `cpu`"),
        (["kind=pretrain", "resources=pretrain_single"], "asks for 4 ranks, and a flat sweep runs one process"),
        (["kind=probe", "hydra/launcher=submitit_slurm", "cluster=a10"], "did you mean `a100`"),
    ],
)
def test_bad_lines(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", *words]) == 2
    assert message in capsys.readouterr().err


def test_what_only_a_pipeline_gives_is_refused(tmp_path: Path) -> None:
    done = flat(tmp_path, "-m", "kind=fusion", f"root={tmp_path / 'root'}")
    assert "this fusion reads `flow`, which another stage makes" in done.stderr
    line = ["kind=retrieval", "data=motions_smoke", "backbone=tiny", "recipe=vicc_retrieval", f"root={tmp_path}"]
    assert "first run: vssl prepare motions_smoke" in flat(tmp_path, "-m", *line).stderr


def test_profiles_reach_the_launcher_by_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "mine.yaml").write_text(
        "partition: gpu\naccount: lab\ngres: 'gpu:a100:{gpus}'\nmail_user: ann@lab\nnodelist: n1\n"
        "signal_delay_s: 60\nsetup: ['export A=\"b c\"']\nadditional_parameters: {reservation: r}\n"
        "vssl: {resources: {cpu: {mem_gb: 3}, linear: {partition: small}}}\n"
    )
    monkeypatch.setenv("VSSL_PROFILES", str(tmp_path))
    assert _resources({"cluster": "mine"}).mem_gb == 3
    site = _site("mine", _resources({"cluster": "mine", "resources": "linear"}))
    assert (site["partition"], site["account"], site["gres"], site["gpus_per_node"]) == (
        *("small", "lab", "gpu:a100:1"),
        None,
    )
    assert site["setup"][1:] == ['export A="b c"']
    assert site["signal_delay_s"] == 60
    assert site["additional_parameters"] == {"reservation": "r", "mail-user": "ann@lab", "nodelist": "n1"}
    assert "gres" not in _site("mine", Resources())
