"""A flat sweep through Hydra's own launcher on a real Slurm, and what its documentation warns of."""

import os
import subprocess
import sys
from pathlib import Path

from launch.provenance import CHECKOUT
from tests.slurm.sandbox import Sandbox
from vssl.artifacts import read_json


def test_a_flat_sweep_is_one_array_that_the_line_waits_for(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "mine.yaml").write_text("partition: cpu\nsetup: [export FROM_THE_PROFILE=yes]\n")
    line = ("-m", "hydra/launcher=submitit_slurm", "cluster=mine", "resources=one_core", "kind=probe", "seed=0,1,2")
    environment = {**os.environ, **sandbox.environment, "VSSL_PROFILES": str(tmp_path)}
    words = [sys.executable, str(CHECKOUT / "launch" / "flat.py"), *line, f"root={tmp_path / 'root'}"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "root").glob("stages/probe-*/done.json"))) == 3
    attempts = [read_json(path) for path in (tmp_path / "root").glob("stages/*/attempts/1.json")]
    assert {attempt["ranks"] for attempt in attempts} == {1}
    (script,) = {path.read_text() for path in (tmp_path / "root" / "debug" / "flat").rglob("*.sh")}
    assert "#SBATCH --array=0-2" in script
    assert "export FROM_THE_PROFILE=yes" in script

    failed = subprocess.run(
        [*words, "fail_at=1", "steps=2"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180
    )
    assert failed.returncode == 1
    assert "the probe fails at step 1" in "".join(
        path.read_text() for path in (tmp_path / "root").glob("stages/*/logs/*.traceback")
    )
    states = sandbox.run("scontrol", "--oneliner", "show", "job").stdout
    assert "JobState=FAILED" not in states, "as documented: Slurm is not told"
