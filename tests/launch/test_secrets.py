"""A secret in the environment, a tracking address or an exception is nowhere afterwards: store, logs, tracker."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch import job
from launch.plan import Plan, PlannedStage, plan_mapping
from launch.report import print_report
from launch.settle import Settlement
from launch.status import plan_status
from launch.store import Store
from tests.launch.slurm_batches import ScriptedSlurm, allocation, job_environment, make_batch
from tests.tracked import free_port
from vssl.artifacts import read_json, write_json
from vssl.tracking import sync

TOKEN, PASSWORD = "canary-that-sings-A", "canary/that+sings B"


def files_with(root: Path, *secrets: str) -> list[str]:
    """Files that hold a secret, in their names or bytes."""
    found = []
    for path in root.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if any(secret in str(path) or secret.encode() in content for secret in secrets):
            found.append(str(path.relative_to(root)))
    return found


@pytest.fixture
def in_a_job(monkeypatch: pytest.MonkeyPatch) -> str:
    """This process as rank 0 of a job whose environment holds secrets; the tracker's address."""
    uri = f"http://ann:canary%2Fthat%2Bsings%20B@127.0.0.1:{free_port()}"
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name, value in job_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAB_TOKEN", TOKEN)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.mark.parametrize("where", ["stage", "launcher"])
def test_no_secret_is_left_anywhere(
    where: str,
    in_a_job: str,
    store: Store,
    stage: Callable[..., PlannedStage],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def sings(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"401 for {in_a_job} with token {os.environ['LAB_TOKEN']!r} and password {PASSWORD!r}")

    monkeypatch.setattr(
        "vssl.stages.probe._misfortune" if where == "stage" else "launch.running.execution.claim", sings
    )
    planned = stage("bird")
    plan = Plan(sweep="sings", scale="smoke", stages=(planned,), datasets={})
    pipeline = store.pipelines / "pipeline"
    pipeline.mkdir(parents=True)
    write_json(pipeline / "plan.json", plan_mapping(plan))
    write_json(pipeline / "store.json", store.to_mapping())
    batch = make_batch(store, [planned])
    assert job.main([str(batch), "1"]) == 1
    slurm = ScriptedSlurm()
    assert Settlement(batch, 1, 1, allocation(), slurm).end() == 1  # type: ignore[arg-type]
    if where == "stage":
        tracked = sync(pipeline, f"sqlite:///{store.root}/mlflow.db")
        assert tracked
        assert tracked.runs == 2
        sync(pipeline, in_a_job)
    for one in plan_status(plan, store):
        print(one)
    print_report(plan, store)
    said = capfd.readouterr()
    secrets = (TOKEN, PASSWORD, "canary%2Fthat")
    assert files_with(store.root, *secrets) == []
    assert not [secret for secret in secrets if secret in said.out + said.err]
    (verdict,) = (read_json(path) for path in batch.glob("settled/*.json"))
    assert "RuntimeError: 401 for http://***@127.0.0.1" in verdict["error"], "the rest is still told"
    assert "RuntimeError: 401 for" in said.err


def test_the_check_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\x00" + TOKEN.encode())
    assert files_with(tmp_path, TOKEN) == ["log"]
