"""Ctrl-C while a command still loads: it ends, and no traceback of half an import is shown."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.provenance import CHECKOUT

SLOW = "import time\nprint('loading', flush=True)\ntime.sleep(600)\n"


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (["launch/pipeline.py", "sweep=vicc_single", "action=plan"], "hydra"),
        (["launch/cli.py", "status"], "typer"),
        (["-m", "launch", "status"], "typer"),
    ],
)
def test_ctrl_c_while_python_loads(tmp_path: Path, words: list[str], package: str) -> None:
    (tmp_path / f"{package}.py").write_text(SLOW)  # found before the real one
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said == ""
    assert process.returncode == -signal.SIGINT
