"""Pipelines in MLflow: everything arrives once, whatever is repeated, lost, interrupted or done by two at once."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.tracked import START_MS, Pipeline, finished
from vssl.run import Journal
from vssl.tracking import needs_sync, sync


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the module: opening a new SQLite database costs seconds."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)  # MLflow likes to leave folders where it is called


def runs_of(pipeline: Pipeline) -> dict[str, Any]:
    """Run name -> run, of one pipeline; two runs of one name fail."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{pipeline.root}/mlflow.db")
    experiment = client.get_experiment_by_name(pipeline.sweep)
    found = client.search_runs(
        [experiment.experiment_id], f"tags.`vssl.pipeline_id` = '{pipeline.folder.name}'", max_results=1000
    )
    names = [run.info.run_name for run in found]
    assert len(names) == len(set(names)), names
    return dict(zip(names, found))


def history(pipeline: Pipeline, name: str, key: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{pipeline.root}/mlflow.db")
    values = client.get_metric_history(runs_of(pipeline)[name].info.run_id, key)
    return sorted((metric.step, metric.value) for metric in values)


def test_a_finished_pipeline_is_one_run_with_nested_runs(root: Path, tmp_path: Path) -> None:
    pipeline = finished(root)
    assert needs_sync(pipeline.folder)
    report = sync(pipeline.folder)
    assert report, report.problem
    assert (report.runs, report.metrics) == (3, 6 * 2 + 2)
    assert not needs_sync(pipeline.folder)

    runs = runs_of(pipeline)
    parent, single, retrieval = runs[pipeline.folder.name], runs["single"], runs["retrieval"]
    assert {run.data.tags.get("mlflow.parentRunId") for run in (single, retrieval)} == {parent.info.run_id}
    assert [run.info.status for run in (parent, single, retrieval)] == ["FINISHED"] * 3
    assert (single.info.start_time, single.info.end_time) == (START_MS, START_MS + 9000)
    assert (parent.info.start_time, parent.info.end_time) == (START_MS, START_MS + 12_000)
    assert retrieval.data.tags["vssl.parents"] == "single"
    assert retrieval.data.metrics == {"recall_at_1": 0.5}
    assert single.data.params["optim.base_lr"] == "0.5"
    groups = {key: single.data.tags[f"vssl.{key}"] for key in ("element", "template", "seed")}
    assert groups == {"element": "single", "template": "single", "seed": "3"}
    assert len(single.data.params["note"]) == 6000
    assert history(pipeline, "single", "loss") == [(step, 1 / (step + 1)) for step in range(6)]
    assert history(pipeline, "single", "loss_last") == [(5, 0.2)]
    kept = [path.name for path in (root / "mlflow-artifacts" / single.info.run_id).rglob("*") if path.is_file()]
    assert sorted(kept) == ["config.json", "done.json", "loss.png", "model_card.md", "result.json"]
    assert not list(tmp_path.iterdir()), "MLflow left something in the working folder"


def test_experiments_open_on_their_runs(root: Path) -> None:
    from mlflow import MlflowClient

    pipeline = finished(root)
    assert sync(pipeline.folder)
    experiment = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db").get_experiment_by_name(pipeline.sweep)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


@pytest.mark.parametrize("lost", [False, True], ids=["kept", "lost"])
def test_a_repeated_push_stores_nothing_twice(root: Path, lost: bool) -> None:
    pipeline = finished(root)
    assert sync(pipeline.folder)
    if lost:
        (pipeline.folder / "tracking.json").unlink()
        shutil.rmtree(pipeline.folder / "tracking")
    again = sync(pipeline.folder)
    assert again
    assert (again.runs, again.metrics) == (0, 0)
    assert len(history(pipeline, "single", "loss")) == 6
    assert len(history(pipeline, "single", "loss_last")) == 1


def test_a_push_that_was_killed_before_its_notes_stores_nothing_twice(root: Path) -> None:
    pipeline = Pipeline(root)
    pipeline.attempt("single", 1)
    pipeline.checkpoint("single", 2, pipeline.log("single", range(2)))
    assert sync(pipeline.folder)
    (note,) = (pipeline.folder / "tracking").glob("pretrain-*.json")
    before = note.read_text()
    pipeline.checkpoint("single", 5, pipeline.log("single", range(2, 5)))
    assert sync(pipeline.folder)
    note.write_text(before)
    assert sync(pipeline.folder)
    assert [step for step, _ in history(pipeline, "single", "loss")] == [0, 1, 2, 3, 4]


def test_only_settled_rows_are_pushed_and_a_resume_goes_on(root: Path) -> None:
    pipeline = Pipeline(root)
    pipeline.attempt("single", 1)
    offset = pipeline.log("single", range(4))
    pipeline.log("single", range(4, 7))
    assert sync(pipeline.folder).metrics == 0, "nothing is settled before the first checkpoint"
    pipeline.checkpoint("single", 4, offset)
    assert needs_sync(pipeline.folder)
    assert sync(pipeline.folder).metrics == 8
    runs = runs_of(pipeline)
    assert [run.info.status for run in runs.values()] == ["RUNNING", "RUNNING"]
    assert runs["single"].info.end_time is None

    pipeline.attempt("single", 1, "saved")
    assert sync(pipeline.folder)
    assert runs_of(pipeline)["single"].info.status == "KILLED"

    journal = Journal(pipeline.stage("single").journal)  # the second attempt cuts the journal and repeats steps
    journal.truncate(offset)
    journal.close()
    pipeline.attempt("single", 2, at_ms=START_MS + 60_000)
    assert sync(pipeline.folder)
    assert runs_of(pipeline)["single"].info.status == "RUNNING"
    pipeline.log("single", range(4, 9))
    pipeline.attempt("single", 2, "done", at_ms=START_MS + 60_000)
    pipeline.done("single", {"loss_last": 0.1}, at_ms=START_MS + 70_000)
    assert sync(pipeline.folder)
    single = runs_of(pipeline)["single"]
    assert (single.info.status, single.info.start_time, single.info.end_time) == (
        "FINISHED",
        START_MS,
        START_MS + 70_000,
    )
    assert single.data.tags["vssl.attempts"] == "2"
    assert single.data.tags.get("vssl.cause", "") == ""
    assert history(pipeline, "single", "loss") == [(step, 1 / (step + 1)) for step in range(9)]
    assert runs_of(pipeline)[pipeline.folder.name].info.status == "RUNNING", "retrieval has not run yet"


def test_going_back_behind_what_was_pushed_doubles_no_step(root: Path) -> None:
    """A damaged checkpoint makes a stage resume from the one before: rows that were settled are written again."""
    pipeline = Pipeline(root)
    pipeline.attempt("single", 1)
    early = pipeline.log("single", range(3))
    pipeline.checkpoint("single", 3, early)
    pipeline.checkpoint("single", 6, pipeline.log("single", range(3, 6)))
    assert sync(pipeline.folder)
    os.truncate(pipeline.stage("single").journal, early)
    time.sleep(0.002)  # other time stamps: MLflow itself would store the rows a second time
    pipeline.checkpoint("single", 6, pipeline.log("single", range(3, 6)))
    pipeline.log("single", range(6, 8))
    pipeline.attempt("single", 1, "done")
    pipeline.done("single", {"loss_last": 0.1})
    assert sync(pipeline.folder)
    assert [step for step, _ in history(pipeline, "single", "loss")] == list(range(8))


def test_a_reused_stage_appears_with_copied_metrics_and_its_source(root: Path) -> None:
    first = finished(root)
    second = Pipeline(root, sweep=first.sweep, id="second")
    second.ids["single"] = first.ids["single"]
    second.write_plan()
    second.attempt("retrieval", 1, "done", at_ms=START_MS + 50_000)
    second.done("retrieval", {"recall_at_1": 0.25})
    assert sync(first.folder)
    assert sync(second.folder)
    copied = runs_of(second)["single"]
    assert copied.data.metrics == {"loss_last": 0.2}
    assert copied.data.tags["vssl.source_pipeline"] == first.folder.name
    assert copied.info.status == "FINISHED"
    parent = runs_of(second)[second.folder.name]
    assert copied.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.info.start_time == START_MS + 50_000, "the pipeline began with its own work"
    assert runs_of(first)["single"].info.run_id != copied.info.run_id


def test_a_stage_of_a_store_that_is_only_read(root: Path, tmp_path: Path) -> None:
    other = finished(tmp_path / "other")
    pipeline = Pipeline(root)
    pipeline.ids |= other.ids
    pipeline.write_plan()
    assert sync(pipeline.folder, read=[tmp_path / "other"])
    assert runs_of(pipeline)["retrieval"].data.metrics == {"recall_at_1": 0.5}


def test_a_failure_closes_the_pipeline_and_a_later_success_reopens_it(root: Path) -> None:
    pipeline = Pipeline(root)
    pipeline.attempt("single", 1, "failed", error="CUDA is on fire")
    assert sync(pipeline.folder)
    runs = runs_of(pipeline)
    assert set(runs) == {pipeline.folder.name, "single"}, "a stage that never started has no run"
    assert [run.info.status for run in runs.values()] == ["FAILED", "FAILED"]
    assert runs["single"].data.tags["vssl.cause"] == "CUDA is on fire"
    pipeline.attempt("single", 2, "done", at_ms=START_MS + 20_000)
    pipeline.done("single", {"loss_last": 0.3}, at_ms=START_MS + 30_000)
    assert sync(pipeline.folder)
    runs = runs_of(pipeline)
    assert runs[pipeline.folder.name].info.status == "RUNNING"
    assert runs["single"].info.status == "FINISHED"


def test_a_redone_stage_is_a_new_run(root: Path) -> None:
    pipeline = finished(root)
    assert sync(pipeline.folder)
    before = runs_of(pipeline)["single"].info.run_id
    folder = pipeline.stage("single").root
    folder.rename(folder.with_name(f"{folder.name}~1"))
    pipeline.attempt("single", 1, at_ms=START_MS + 99_000)
    pipeline.checkpoint("single", 2, pipeline.log("single", range(2), scale=7.0))
    assert sync(pipeline.folder).runs == 1
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name(pipeline.sweep).experiment_id
    runs = client.search_runs([experiment], f"tags.`vssl.stage_id` = '{pipeline.ids['single']}'")
    assert {run.info.run_id: run.info.status for run in runs}[before] == "FINISHED"
    assert Counter(run.info.start_time for run in runs) == {START_MS: 1, START_MS + 99_000: 1}


def test_a_server_that_is_down_loses_nothing(root: Path) -> None:
    pipeline = finished(root)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        started = time.monotonic()
        report = sync(pipeline.folder, uri)
    assert not report
    assert uri in report.problem
    assert "nothing is lost" in report.problem
    assert time.monotonic() - started < 30
    assert needs_sync(pipeline.folder)
    assert sync(pipeline.folder).metrics == 14


def test_two_pushes_at_once_make_one_run(root: Path) -> None:
    pipeline = finished(root)
    reports: list[Any] = []
    threads = [threading.Thread(target=lambda: reports.append(sync(pipeline.folder))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(reports)
    assert sorted(report.runs for report in reports) == [0, 3]
    assert len(history(pipeline, "single", "loss")) == 6


def test_the_lock_names_its_holder_and_outlives_no_process(root: Path) -> None:
    pipeline = finished(root)
    lock = pipeline.folder / "tracking.lock"
    lock.write_text(json.dumps({"host": "another-node", "pid": 7, "nonce": "n", "at_s": time.time()}))
    report = sync(pipeline.folder, wait_s=0.1)
    assert report.problem.startswith("process 7 on another-node is pushing")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": gone.pid, "nonce": "n", "at_s": time.time()}))
    assert sync(pipeline.folder, wait_s=0.1)
    assert not lock.exists()


def test_a_folder_without_a_plan_is_named(tmp_path: Path) -> None:
    report = sync(tmp_path)
    assert "no plan.json" in report.problem
    assert not needs_sync(tmp_path)


def test_nothing_has_started_yet(root: Path) -> None:
    pipeline = Pipeline(root)
    assert sync(pipeline.folder)
    assert list((root / "pipelines").glob("*/*.tmp")) == []
