"""Jobs on nodes push their own stages to a real MLflow server; with the server away, `sync` brings it all later."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launch.executors.slurm import execute
from launch.plan import Plan
from launch.slurm.profiles import Profile
from launch.store import Store
from tests.launch.conftest import planned
from tests.slurm.lines import SMALL
from tests.slurm.sandbox import Sandbox, wait_until
from tests.tracked import free_port, mlflow_server
from vssl.run import read_journal
from vssl.tracking import needs_sync, sync


def chain(sweep: str) -> Plan:
    """A stage, and one below it with four ranks on two nodes."""
    first = replace(planned("first", seed=1, steps=5), resources=SMALL)
    wide = replace(SMALL, nodes=2, tasks_per_node=2)
    second = replace(planned("second", [first], seed=2, steps=20, step_s=0.2), resources=wide)
    return Plan(sweep=sweep, scale="smoke", stages=(first, second), datasets={})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("server"), free_port()) as uri:
        yield uri


@pytest.fixture
def store(tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("SLURM_CONF", sandbox.environment["SLURM_CONF"])
    monkeypatch.chdir(tmp_path)
    return Store(tmp_path / "root", visibility_s=2.0)


def run(plan: Plan, store: Store, sandbox: Sandbox) -> None:
    assert execute(plan, list(plan.by_name), store, profile=Profile(name="now")) == 0
    wait_until(lambda: not sandbox.run("squeue", "--noheader").stdout, "the end of all jobs", 180)
    logs = "\n".join(path.read_text() for path in store.batches.glob("*/logs/*.log"))
    assert set(store.reusable_stages(plan)) == set(plan.by_name), logs


def check(plan: Plan, store: Store, uri: str) -> None:
    """One run for each stage, complete and below the pipeline's own."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(plan.sweep)
    found: list[Any] = client.search_runs([experiment.experiment_id])
    runs = {run.info.run_name: run for run in found}
    assert len(runs) == len(found) == 3
    parent = runs[store.pipeline(plan).name]
    assert {run.info.status for run in found} == {"FINISHED"}
    for stage in plan:
        run = runs[stage.name]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["vssl.slurm_job_id"]
        rows = read_journal(store.stage(stage.folder).journal)
        pushed = sorted((one.step, one.value) for one in client.get_metric_history(run.info.run_id, "value"))
        assert pushed == [(row["step"], row["values"]["value"]) for row in rows]


def test_jobs_bring_their_own_stages_to_a_server(
    server: str, store: Store, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    plan = chain("pushed")
    run(plan, store, sandbox)
    check(plan, store, server)
    again = sync(store.pipeline(plan), server)
    assert again
    assert (again.runs, again.metrics) == (0, 0)


def test_a_server_that_is_away_for_the_whole_run_gets_everything_later(
    server: str, store: Store, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F18."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    plan = chain("away")
    run(plan, store, sandbox)
    assert needs_sync(store.pipeline(plan), server)
    assert sync(store.pipeline(plan), server)
    check(plan, store, server)
