"""Pipelines shown in MLflow; the only importer of mlflow, and only inside functions. Torch-free.

The files of a store are the truth and MLflow is a copy: `sync` looks at one pipeline's files, looks at what MLflow
has, and pushes the difference. It may run as often as anybody likes, be killed anywhere, and lose its own notes
(`tracking.json`): runs are found again by their tags, and rows that MLflow has are not pushed twice. One experiment per
sweep, one run per pipeline, in it one nested run per stage from the stage's first start on.
"""

import getpass
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vssl.artifacts import read_json, sha256_text, write_json
from vssl.tracking_fields import flat_params, stage_tags
from vssl.tracking_lock import exclusive
from vssl.tracking_state import PipelineState, StageState, Status, read_pipeline, read_rows, tail_digest

RUN_STATUS: dict[Status, str] = {"running": "RUNNING", "stopped": "KILLED", "failed": "FAILED", "done": "FINISHED"}
MAX_PARAMS = 100  # in one call
MAX_METRICS = 1000  # in one call
MODEL_TRAINING = ("mlflow.experimentKind", "custom_model_development")  # opens the list of runs, not the chat traces


@dataclass(kw_only=True)
class SyncReport:
    """What a push did; true unless there was a problem."""

    uri: str
    runs: int = 0  # runs made
    metrics: int = 0  # values pushed
    problem: str = ""  # why it did not get through; the next push brings everything that is missing

    def __bool__(self) -> bool:
        return not self.problem


def tracking_uri(root: Path) -> str:
    """Where results go: $MLFLOW_TRACKING_URI, else an SQLite file in the store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.absolute()}/mlflow.db"


def needs_sync(pipeline: Path, uri: str | None = None, read: Sequence[Path] = ()) -> bool:
    """Whether a pipeline has something that was not pushed yet. Reads small files; does not import mlflow."""
    state = read_pipeline(pipeline, read)
    if state is None:
        return False
    notes = read_json(pipeline / "tracking.json") or {}
    return bool(notes.get("uri") != (uri or tracking_uri(state.root)) or notes.get("stamp") != state.stamp)


def sync(
    pipeline: Path,
    uri: str | None = None,
    say: Callable[[str], None] = print,
    *,
    read: Sequence[Path] = (),
    wait_s: float = 120.0,
) -> SyncReport:
    """Push what MLflow does not have yet of one pipeline.

    Args:
        pipeline: `<root>/pipelines/<name>`.
        uri: of the tracking server or database; see `tracking_uri`.
        say: takes lines of progress where there is much to push.
        read: roots of other stores whose finished stages the pipeline may use.
        wait_s: how long to wait for another process that is pushing the same pipeline.

    Returns:
        What was pushed, or why nothing could be: nothing is ever lost by a server that is down.
    """
    state = read_pipeline(pipeline, read)
    if state is None:
        return SyncReport(uri=uri or "", problem=f"{pipeline} is no pipeline: it has no plan.json")
    report = SyncReport(uri=uri or tracking_uri(state.root))
    with exclusive(pipeline / "tracking.lock", wait_s) as holder:
        if holder:
            report.problem = f"{holder} is pushing {pipeline.name} already"
            return report
        state = read_pipeline(pipeline, read) or state  # what happened while waiting
        with _quiet_and_bounded():
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            try:
                _Push(state, pipeline / "tracking.json", report, say).run()
            except (MlflowException, SQLAlchemyError, OSError) as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                report.problem = f"MLflow at {report.uri} cannot be used now ({reason}); nothing is lost, sync again"
    return report


class _Push:
    """One push of one pipeline, while its lock is held."""

    def __init__(self, state: PipelineState, notes: Path, report: SyncReport, say: Callable[[str], None]) -> None:
        from mlflow import MlflowClient

        self.state = state
        self.report = report
        self.say = say
        self.client = MlflowClient(tracking_uri=report.uri)
        self.notes_path = notes
        old = read_json(notes) or {}
        self.offsets: dict[str, Any] = old.get("runs", {}) if old.get("uri") == report.uri else {}
        self.store = sha256_text(str(state.root))[:16]

    def run(self) -> None:
        shown = [s for s in self.state.stages if s.status != "waiting" and (not s.source or s.status == "done")]
        if not shown:
            return
        experiment = self._experiment()
        runs = self._existing(experiment)
        parent = self._parent(experiment, runs, shown)
        try:
            for number, stage in enumerate(shown, start=1):
                self._stage(experiment, parent, runs, stage)
                if number % 50 == 0:
                    self.say(f"MLflow: {number} of {len(shown)} stages")
        finally:
            self._save("")
        status = self.state.status
        ended = max(stage.ended_at_ms for stage in shown)
        self._set_status(parent, status, max(ended, parent.info.start_time))
        self._save(self.state.stamp)

    def _save(self, stamp: str) -> None:
        write_json(self.notes_path, {"uri": self.report.uri, "stamp": stamp, "runs": self.offsets})

    def _experiment(self) -> str:
        """Id of the sweep's experiment, made where there is none."""
        from mlflow.exceptions import MlflowException

        name, place = self.state.sweep, None  # a server decides the place by itself
        if self.report.uri.startswith("sqlite:///"):
            place = (Path(self.report.uri.removeprefix("sqlite:///")).absolute().parent / "mlflow-artifacts").as_uri()
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, place, tags=dict([MODEL_TRAINING])))
            except MlflowException as error:  # another pipeline of the sweep may have been faster
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise error
        if found.lifecycle_stage == "deleted":
            raise MlflowException(
                f"experiment {name!r} was deleted there; bring it back with `mlflow experiments restore "
                f"--experiment-id {found.experiment_id}`"
            )
        if MODEL_TRAINING[0] not in found.tags:
            self.client.set_experiment_tag(found.experiment_id, *MODEL_TRAINING)
        return str(found.experiment_id)

    def _existing(self, experiment: str) -> dict[str, Any]:
        """Runs of this pipeline by what they show: a stage's generation, or "pipeline"."""
        from mlflow.entities import ViewType

        runs: dict[str, Any] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [experiment],
                filter_string=f"tags.`vssl.pipeline_id` = '{self.state.id}' AND tags.`vssl.store` = '{self.store}'",
                run_view_type=ViewType.ALL,
                max_results=1000,
                page_token=token,
            )
            runs |= {run.data.tags["vssl.shows"]: run for run in page}
            token = page.token
            if not token:
                return runs

    def _make(self, experiment: str, name: str, start_ms: int, tags: Mapping[str, str]) -> Any:
        common = {
            "vssl.pipeline_id": self.state.id,
            "vssl.store": self.store,
            "mlflow.user": _user(),
            "mlflow.source.name": "launch/pipeline.py",
        }
        self.report.runs += 1
        return self.client.create_run(experiment, start_time=start_ms, run_name=name, tags=common | dict(tags))

    def _parent(self, experiment: str, runs: Mapping[str, Any], shown: Sequence[StageState]) -> Any:
        if "pipeline" in runs:
            return runs["pipeline"]
        own = [stage.started_at_ms for stage in shown if not stage.source]
        planned_ms = (self.notes_path.parent / "plan.json").stat().st_mtime_ns // 1_000_000
        tags = {
            "vssl.shows": "pipeline",
            "vssl.sweep": self.state.sweep,
            "vssl.scale": self.state.scale,
            "vssl.stages": str(len(self.state.stages)),
        }
        return self._make(experiment, self.state.id, min(own, default=planned_ms), tags)

    def _stage(self, experiment: str, parent: Any, runs: Mapping[str, Any], stage: StageState) -> None:
        run, known = runs.get(stage.generation), True
        if run is None:
            tags = {"vssl.shows": stage.generation, "mlflow.parentRunId": parent.info.run_id}
            run, known = self._make(experiment, stage.name, stage.started_at_ms, tags), False
        elif run.info.lifecycle_stage == "deleted":
            return  # somebody does not want to see it
        self._describe(run, stage)
        last_step = self._rows(run, stage, known)
        if stage.status == "done" and run.data.tags.get("vssl.complete") != "yes":
            rows = [{"step": last_step, "time_ms": stage.ended_at_ms, "values": stage.metrics}]
            self._metrics(run.info.run_id, rows, ask=True)
            self._artifacts(run.info.run_id, stage)
            self.client.set_tag(run.info.run_id, "vssl.complete", "yes")
        self._set_status(run, stage.status, stage.ended_at_ms)

    def _describe(self, run: Any, stage: StageState) -> None:
        """Parameters and tags that the run lacks."""
        from mlflow.entities import Param, RunTag

        tags = [RunTag(key, value) for key, value in stage_tags(stage).items() if run.data.tags.get(key, "") != value]
        params = [
            Param(key, value)
            for key, value in flat_params(stage.planned["kind"], stage.planned["config"]).items()
            if key not in run.data.params
        ]
        if tags:
            self.client.log_batch(run.info.run_id, tags=tags)
        for start in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(run.info.run_id, params=params[start : start + MAX_PARAMS])

    def _rows(self, run: Any, stage: StageState, known: bool) -> int:
        """Push settled journal rows that the run lacks; returns the journal's last step."""
        journal, run_id = stage.folder.journal, run.info.run_id
        if stage.source:  # the curve is in the run of the pipeline that trained it
            return max((row["step"] for row in read_rows(journal, 0, stage.journal_bytes)), default=0)
        note = self.offsets.get(run_id)
        goes_on = note is not None and tail_digest(journal, note["bytes"]) == note["tail"]
        start, step = (note["bytes"], note["step"]) if note is not None and goes_on else (0, 0)
        rows = read_rows(journal, start, stage.journal_bytes)
        self._metrics(run_id, rows, ask=known and not goes_on)
        step = max((row["step"] for row in rows), default=step)
        end = max(start, stage.journal_bytes)
        self.offsets[run_id] = {"bytes": end, "tail": tail_digest(journal, end), "step": step}
        return int(step)

    def _metrics(self, run_id: str, rows: Sequence[Mapping[str, Any]], *, ask: bool) -> None:
        """Push values; where the run may have some of them, ask which first."""
        from mlflow.entities import Metric

        names = {name for row in rows for name in row["values"]}
        there = {
            (name, metric.step)
            for name in (sorted(names) if ask else ())
            for metric in self.client.get_metric_history(run_id, name)
        }
        values = [
            Metric(name, float(value), row["time_ms"], row["step"])
            for row in rows
            for name, value in row["values"].items()
            if (name, row["step"]) not in there
        ]
        for start in range(0, len(values), MAX_METRICS):
            self.client.log_batch(run_id, metrics=values[start : start + MAX_METRICS])
        self.report.metrics += len(values)

    def _artifacts(self, run_id: str, stage: StageState) -> None:
        folder = stage.folder
        for path in (folder.config, folder.inputs, folder.result, folder.done):
            if path.exists():
                self.client.log_artifact(run_id, str(path))
        for path in sorted((folder.artifacts / "plots").glob("*.png")):
            self.client.log_artifact(run_id, str(path), "plots")

    def _set_status(self, run: Any, status: Status, ended_at_ms: int) -> None:
        wanted = RUN_STATUS[status]
        if wanted == "RUNNING":
            if run.info.status != wanted:
                self.client.update_run(run.info.run_id, status=wanted)
        elif (run.info.status, run.info.end_time) != (wanted, ended_at_ms):
            self.client.set_terminated(run.info.run_id, status=wanted, end_time=ended_at_ms)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user id has no name
        return str(os.getuid())


@contextmanager
def _quiet_and_bounded() -> Iterator[None]:
    """MLflow without its start-up notes, without telemetry, and giving up on a dead server within seconds."""
    defaults = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    ours = {key: value for key, value in defaults.items() if key not in os.environ}
    os.environ.update(ours)
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mlflow  # noqa: F401  (it sets up its loggers when it is imported)

            levels = [logger.level for logger in loggers]
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            try:
                yield
            finally:
                for logger, level in zip(loggers, levels):
                    logger.setLevel(level)
    finally:
        for key in ours:
            os.environ.pop(key, None)
