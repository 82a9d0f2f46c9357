"""A secret in the environment of a submission, and in what a stage raises on a node, is in no script, log or record."""

from pathlib import Path

import pytest

from launch.executors.slurm import execute
from launch.plan import Plan
from launch.slurm.profiles import Profile
from launch.store import Store
from tests.launch.conftest import planned
from tests.launch.test_secrets import PASSWORD, TOKEN, files_with
from tests.slurm.sandbox import Sandbox, wait_until
from tests.tracked import free_port
from vssl.artifacts import read_json
from vssl.tracking import sync

# Python reads it when it starts: the stage then raises what a library might that cannot log in somewhere.
SINGS = """
import os
import vssl.stages.probe

def sings(*_):
    raise RuntimeError(f"401 for {os.environ['MLFLOW_TRACKING_URI']}, token {os.environ['LAB_TOKEN']!r}")

vssl.stages.probe._misfortune = sings
"""


def test_no_secret_is_left_by_a_submission_and_its_job(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    address = "canary%2Fthat%2Bsings%20B"
    monkeypatch.setenv("SLURM_CONF", sandbox.environment["SLURM_CONF"])
    monkeypatch.setenv("LAB_TOKEN", TOKEN)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:{address}@127.0.0.1:{free_port()}")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SINGS)
    store = Store(tmp_path / "root", visibility_s=2.0)
    plan = Plan(sweep="sings", scale="smoke", stages=(planned("bird"),), datasets={})
    profile = Profile(name="site", setup=(f"export PYTHONPATH={tmp_path / 'site'}",))
    assert execute(plan, ["bird"], store, profile=profile) == 0
    wait_until(lambda: not sandbox.run("squeue", "--noheader").stdout, "the end of the job", 120)
    (verdict,) = (read_json(path) for path in store.batches.glob("*/settled/*.json"))
    assert (verdict["cause"], verdict["exit_code"]) == ("exception", 1)
    assert "401 for http://***@127.0.0.1" in verdict["error"]
    assert sync(store.pipeline(plan), f"sqlite:///{store.root}/mlflow.db")
    said = capfd.readouterr()
    secrets = (TOKEN, PASSWORD, address)
    assert files_with(store.root, *secrets) == []
    assert not [secret for secret in secrets if secret in said.out + said.err]
    logs = "".join(path.read_text() for path in store.batches.glob("*/logs/*.log"))
    assert "Traceback" in logs, "all the rest is told"
    assert "metrics were not pushed to MLflow" in logs
