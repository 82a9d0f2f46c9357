"""A user's first day on a cluster, as README tells it: every line is typed into a shell."""

import os
import re
import subprocess
import sys
from pathlib import Path

from launch.provenance import CHECKOUT
from tests.slurm.sandbox import Sandbox

MARK = "is run by tests/slurm/test_readme.py"


def _lines() -> list[str]:
    block = re.search(rf"{MARK}.*?```\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    return block[1].strip().splitlines()


def test_the_first_day(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    hidden = ("SLURM_", "VSSL_", "PYTHONPATH", "MLFLOW_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment |= {
        **sandbox.environment,
        "HOME": str(tmp_path / "home"),
        "VSSL_ROOT": str(tmp_path / "runs"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    said: list[str] = []
    for line in _lines():
        typed = line.replace("partition: gpu", "partition: cpu")  # the one word that is the site's own
        done = subprocess.run(
            ["bash", "-c", typed], cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{typed}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
    assert len(said) == 10
    _, doctor, plan, preflight, first, cancel, why, again, _, report = said
    assert "USR2 reaches the ranks through srun" in doctor
    assert "4 jobs in 4 arrays" in plan
    assert "could start" in preflight
    assert "4 of 4 stages queued" in first
    assert "cancelled single-flow" in cancel
    assert "single-flow was cancelled by `vssl cancel`; run the same line again" in why
    assert re.match(r"single-flow: .*\ncross1-rgb: .*\n2 of \d stages queued now", again)
    assert sum(" done " in line for line in report.splitlines()) == 4, report
