"""Jobs push their own stages to a real MLflow server: once each, beside the training, and whatever happens to it."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import launch.running.push
from launch.plan import Plan, PlannedStage, plan_mapping
from launch.running.push import push_once, pushes_itself, pushing_stage
from launch.settle import Settlement
from launch.store import Store
from tests.launch.slurm_batches import ScriptedSlurm, allocation, job_environment, make_batch
from tests.tracked import START_MS, Pipeline, free_port, mlflow_server
from tests.waiting import wait_until
from vssl.artifacts import write_json
from vssl.run import read_journal
from vssl.tracking import StageSync, needs_sync, sync


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("server"), free_port()) as uri:
        yield uri


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def runs_of(uri: str, pipeline: Pipeline) -> dict[str, Any]:
    """Run name -> run of one pipeline; two runs of one name fail."""
    experiment = client(uri).get_experiment_by_name(pipeline.sweep)
    found = client(uri).search_runs(
        [experiment.experiment_id], f"tags.`vssl.pipeline_id` = '{pipeline.folder.name}'", max_results=1000
    )
    names = [run.info.run_name for run in found]
    assert len(names) == len(set(names)), names
    return dict(zip(names, found))


def history(uri: str, run: Any, key: str) -> list[tuple[int, float]]:
    return sorted((one.step, one.value) for one in client(uri).get_metric_history(run.info.run_id, key))


def test_a_stage_is_pushed_alone_and_closes_the_pipeline_as_the_last_one(server: str, root: Path) -> None:
    pipeline = Pipeline(root)
    single = StageSync(pipeline.folder, "single", server)
    assert (single.push().runs, pipeline.folder.joinpath("tracking").exists()) == (0, False), "nothing has started"
    pipeline.attempt("single", 1)
    assert single.push().runs == 2
    pipeline.checkpoint("single", 4, pipeline.log("single", range(4)))
    assert single.push().metrics == 8
    pipeline.attempt("single", 1, "done")
    pipeline.done("single", {"loss_last": 0.2})
    assert single.push().metrics == 1
    runs = runs_of(server, pipeline)
    assert set(runs) == {"single", pipeline.folder.name}
    parent = runs[pipeline.folder.name]
    assert (runs["single"].info.status, parent.info.status) == ("FINISHED", "RUNNING")
    assert runs["single"].data.tags["mlflow.parentRunId"] == parent.info.run_id

    pipeline.attempt("retrieval", 1, "done", at_ms=START_MS + 10_000)
    pipeline.done("retrieval", {"recall_at_1": 0.5}, at_ms=START_MS + 12_000)
    assert StageSync(pipeline.folder, "retrieval", server).push()
    runs = runs_of(server, pipeline)
    parent = runs[pipeline.folder.name]
    assert runs["retrieval"].data.tags["vssl.parents"] == "single"
    assert (parent.info.status, parent.info.end_time) == ("FINISHED", START_MS + 12_000)
    kept = {file.path for file in client(server).list_artifacts(runs["single"].info.run_id)}
    assert {"config.json", "done.json", "result.json", "plots"} <= kept
    again = sync(pipeline.folder, server)
    assert again
    assert (again.runs, again.metrics) == (0, 0)
    assert not needs_sync(pipeline.folder, server)


def test_a_failure_ends_the_pipeline_once_nothing_is_left_to_run(server: str, root: Path) -> None:
    pipeline = Pipeline(root)
    pipeline.attempt("single", 1, "failed", error="CUDA is on fire")
    assert StageSync(pipeline.folder, "single", server).push()
    assert [run.info.status for run in runs_of(server, pipeline).values()] == ["FAILED", "FAILED"]


def test_a_stage_that_another_process_is_pushing_is_left_to_it(server: str, root: Path) -> None:
    pipeline = Pipeline(root)
    pipeline.attempt("single", 1)
    stage = StageSync(pipeline.folder, "single", server)
    assert stage.push()
    (note,) = (pipeline.folder / "tracking").glob("pretrain-*.json")
    holder = {"host": "another-node", "pid": 7, "nonce": "n", "at_s": time.time()}
    lock = note.with_suffix(".lock")
    lock.write_text(str(holder).replace("'", '"'))
    pipeline.attempt("single", 1, "done")
    pipeline.done("single", {"loss_last": 0.2})
    assert stage.push()
    assert sync(pipeline.folder, server)
    assert runs_of(server, pipeline)["single"].info.status == "RUNNING"
    assert needs_sync(pipeline.folder, server), "it is not forgotten"
    lock.write_text(str(holder | {"at_s": time.time() - 600}).replace("'", '"'))
    assert stage.push(), "a holder that died elsewhere holds nothing for long"
    assert runs_of(server, pipeline)["single"].info.status == "FINISHED"


def test_two_stages_that_start_at_once_share_the_pipelines_run(server: str, root: Path) -> None:
    pipeline = Pipeline(root)
    pipeline.attempt("single", 1)
    pipeline.attempt("retrieval", 1)
    program = (
        "import sys; from pathlib import Path; from vssl.tracking import StageSync\n"
        "report = StageSync(Path(sys.argv[1]), sys.argv[2], sys.argv[3]).push(); assert report, report.problem"
    )
    words = [sys.executable, "-c", program, str(pipeline.folder)]
    pushing = [subprocess.Popen([*words, name, server]) for name in ("single", "retrieval")]
    assert [one.wait(120) for one in pushing] == [0, 0]
    runs = runs_of(server, pipeline)
    parents = {runs[name].data.tags["mlflow.parentRunId"] for name in ("single", "retrieval")}
    assert parents == {runs[pipeline.folder.name].info.run_id}


ON_SLURM = {"VSSL_LAUNCHED": "1", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "0"}


@pytest.mark.parametrize(
    ("environment", "pushes"),
    [
        ({**ON_SLURM, "MLFLOW_TRACKING_URI": "http://mlflow:5000"}, True),
        ({**ON_SLURM, "MLFLOW_TRACKING_URI": "https://ann:pw@mlflow"}, True),
        ({**ON_SLURM, "MLFLOW_TRACKING_URI": "sqlite:////shared/mlflow.db"}, False),
        (ON_SLURM, False),
        ({"SLURM_ARRAY_JOB_ID": "12", "MLFLOW_TRACKING_URI": "http://mlflow:5000"}, False),
        ({"VSSL_LAUNCHED": "1", "MLFLOW_TRACKING_URI": "http://mlflow:5000"}, False),
    ],
)
def test_jobs_push_on_slurm_and_to_servers_only(environment: dict[str, str], pushes: bool) -> None:
    assert pushes_itself(environment) == pushes


class Sockets:
    """Counts what this process does with sockets; hooks stay, so it can be switched off."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.on = True
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"):
            self.events.append(event)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Any:
    """This process as rank 0 of a job, with a server to push to."""

    def begin(uri: str) -> None:
        for name, value in {**ON_SLURM, "MLFLOW_TRACKING_URI": uri}.items():
            monkeypatch.setenv(name, value)

    return begin


def test_a_running_stage_is_pushed_from_beside_it(server: str, root: Path, job: Any) -> None:
    pipeline = Pipeline(root)
    pipeline.attempt("single", 1)
    job(server)
    sockets = Sockets()
    notes = pipeline.folder / "tracking" / f"pretrain-{pipeline.ids['single']}.json"
    with pushing_stage(pipeline.folder, "single", lambda: False, every_s=0.1):
        pipeline.checkpoint("single", 3, pipeline.log("single", range(3)))
        wait_until(lambda: notes.exists() and json.loads(notes.read_text())["step"] == 2)
        pipeline.log("single", range(3, 5))
        pipeline.attempt("single", 1, "done")
        pipeline.done("single", {"loss_last": 0.2})
    sockets.on = False
    assert sockets.events == [], "the training itself touches no network"
    single = runs_of(server, pipeline)["single"]
    assert single.info.status == "FINISHED"
    assert history(server, single, "loss") == [(step, 1 / (step + 1)) for step in range(5)]


def test_a_server_that_is_down_for_the_whole_run_loses_nothing(
    server: str, root: Path, job: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    pipeline = Pipeline(root)
    pipeline.attempt("single", 1)
    dead = f"http://ann:hunter22@127.0.0.1:{free_port()}"
    job(dead)
    with pushing_stage(pipeline.folder, "single", lambda: False, every_s=0.1):
        pipeline.checkpoint("single", 4, pipeline.log("single", range(4)))
        pipeline.attempt("single", 1, "done")
        pipeline.done("single", {"loss_last": 0.2})
    said = capfd.readouterr().err
    assert f"push them with: vssl sync {pipeline.folder.name}" in said
    assert "hunter22" not in said
    assert needs_sync(pipeline.folder, server)
    assert sync(pipeline.folder, server).metrics == 9
    single = runs_of(server, pipeline)["single"]
    assert history(server, single, "lr") == [(step, 0.1) for step in range(4)]


def test_a_stage_that_was_asked_to_stop_does_not_wait(root: Path, job: Any) -> None:
    pipeline = Pipeline(root)
    pipeline.attempt("single", 1)
    with socket.socket() as silent:  # accepts, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        job(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pushing_stage(pipeline.folder, "single", lambda: True):
            silent.settimeout(60)
            connection, _ = silent.accept()
            began = time.monotonic()
        assert time.monotonic() - began < launch.running.push.END_WAIT_S - 10
        connection.close()


def test_it_ends_with_a_job_that_was_killed(root: Path, job: Any) -> None:
    pipeline = Pipeline(root)
    pipeline.attempt("single", 1)
    job(f"http://127.0.0.1:{free_port()}")
    program = (
        "import sys, time; from pathlib import Path; from launch.running.push import pushing_stage\n"
        "with pushing_stage(Path(sys.argv[1]), 'single', lambda: False): time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(pipeline.folder)]) as victim:
        children = Path(f"/proc/{victim.pid}/task/{victim.pid}/children")
        wait_until(lambda: children.read_text().strip() != "")
        child = Path("/proc") / children.read_text().strip()
        wait_until(lambda: b"launch.running.push" in (child / "cmdline").read_bytes())
        victim.kill()
    wait_until(lambda: not child.exists() or "State:\tZ" in (child / "status").read_text())


def test_who_comes_after_a_killed_job_pushes_once(server: str, root: Path, job: Any) -> None:
    pipeline = Pipeline(root)
    pipeline.attempt("single", 1, batch="b", slurm={"job": "12_0", "restart": 0})
    settled = root / "batches" / "b" / "settled"
    settled.mkdir(parents=True)
    verdict = {"cause": "out_of_memory", "error": "", "decision": "end", "at_ms": START_MS + 7000}
    (settled / "0.0.json").write_text(json.dumps(verdict))
    job(server)
    push_once(pipeline.folder, "single")
    single = runs_of(server, pipeline)["single"]
    assert (single.info.status, single.data.tags["vssl.cause"]) == ("FAILED", "out of memory")
    assert single.data.tags["vssl.slurm_job_id"] == "12_0"


def test_five_restarts_of_four_ranks_are_one_run(
    server: str, store: Store, stage: Callable[..., PlannedStage], run_stage: Callable[..., int]
) -> None:
    """F17: requeued five times, stopped by a signal to all ranks, and every step arrives once."""
    first = stage("first", seed=1)
    steps = 120  # at half a second each: the stage outlasts every wait for a push, however busy the machine
    second = stage("second", [first], seed=2, steps=steps, resources={"tasks_per_node": 4})
    plan = Plan(sweep="restarted", scale="smoke", stages=(first, second), datasets={})
    assert run_stage(plan, "first") == 0
    pipeline = store.pipelines / "pipeline"
    pipeline.mkdir(parents=True)
    write_json(pipeline / "plan.json", plan_mapping(plan))
    batch = make_batch(store, plan.stages, ranks=4)
    note = pipeline / "tracking" / f"{second.folder}.json"
    for restart in range(6):
        record = json.loads((batch / "elements.json").read_text())
        record["elements"]["2"]["config"]["step_s"] = 0.5 if restart < 5 else 0.0  # it changes no result
        write_json(batch / "elements.json", record)
        ranks = [_rank(batch, rank, restart, server) for rank in range(4)]
        if restart < 5:
            wait_until(_grows(store.stage(second.folder).journal, note))
            for rank in ranks:
                rank.send_signal(signal.SIGTERM)
        assert {rank.wait(120) for rank in ranks} == {75 if restart < 5 else 0}
        slurm = ScriptedSlurm({"Restarts": str(restart)})
        settled = Settlement(batch, 2, 75 if restart < 5 else 0, allocation(2, restart), slurm)  # type: ignore[arg-type]
        assert settled.end() == (75 if restart < 5 else 0)
        assert len(slurm.requeued) == (restart < 5)
    experiment = client(server).get_experiment_by_name("restarted")
    runs = {run.info.run_name: run for run in client(server).search_runs([experiment.experiment_id])}
    assert len(client(server).search_runs([experiment.experiment_id])) == len(runs) == 2
    run, parent = runs["second"], runs["pipeline"]
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (run.data.tags["vssl.parents"], run.data.tags["vssl.attempts"]) == ("first", "6")
    assert (run.data.tags["vssl.slurm_job_id"], run.data.tags.get("vssl.cause", "")) == ("12_2", "")
    journal = [(row["step"], row["values"]["value"]) for row in read_journal(store.stage(second.folder).journal)]
    assert [step for step, _ in journal] == list(range(steps))
    assert [row for row in history(server, run, "value") if row[0] < steps - 1] == journal[:-1]
    assert len(history(server, run, "value")) == steps
    assert parent.info.status == "FINISHED", "the last stage closes the pipeline"


def _rank(batch: Path, rank: int, restart: int, uri: str) -> "subprocess.Popen[bytes]":
    environment = job_environment(rank, 4, index=2, restart=restart) | {"MLFLOW_TRACKING_URI": uri}
    words = [sys.executable, "-P", "-m", "launch.job", str(batch)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _grows(journal: Path, note: Path) -> Callable[[], bool]:
    """Whether a step was made since now, of a stage that has its run."""
    before = len(read_journal(journal))
    return lambda: note.exists() and len(read_journal(journal)) > before


def test_a_last_push_that_takes_too_long_is_said(
    root: Path, job: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch.running.push, "END_WAIT_S", 0.1)
    pipeline = Pipeline(root)
    pipeline.attempt("single", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        job(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pushing_stage(pipeline.folder, "single", lambda: False):
            pass
    said = capfd.readouterr().err
    assert "the last push was not done" in said
    assert f"vssl sync {pipeline.folder.name}" in said
