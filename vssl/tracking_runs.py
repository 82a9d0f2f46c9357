"""Runs of one pipeline on an MLflow server: found by their tags, made where there is none, and brought up to date.

Beside `vssl.tracking`, which decides what is pushed and when, the only importer of mlflow, and only inside functions.
"""

import getpass
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vssl.artifacts import sha256_text
from vssl.tracking_fields import flat_params, stage_tags
from vssl.tracking_lock import exclusive
from vssl.tracking_state import PipelineFiles, StageState, Status, read_rows, tail_digest

RUN_STATUS: dict[Status, str] = {"running": "RUNNING", "stopped": "KILLED", "failed": "FAILED", "done": "FINISHED"}
MAX_PARAMS = 100  # in one call
MAX_METRICS = 1000  # in one call
MODEL_TRAINING = ("mlflow.experimentKind", "custom_model_development")  # opens the list of runs, not the chat traces
_MAKING_WAIT_S = 60.0  # for another process that is making the pipeline's run


@dataclass(kw_only=True)
class SyncReport:
    """What a push did; true unless there was a problem."""

    uri: str  # without a password
    runs: int = 0  # runs made
    metrics: int = 0  # values pushed
    problem: str = ""  # why it did not get through; the next push brings everything that is missing

    def __bool__(self) -> bool:
        return not self.problem


class Runs:
    """The runs of one pipeline, as one process sees them."""

    def __init__(self, files: PipelineFiles, uri: str, report: SyncReport) -> None:
        from mlflow import MlflowClient

        self.files = files
        self._uri = uri
        self._report = report
        self._client = MlflowClient(tracking_uri=uri)
        self._store = sha256_text(str(files.root))[:16]
        self._experiment = self._find_experiment()

    def _find_experiment(self) -> str:
        """Id of the sweep's experiment, made where there is none."""
        from mlflow.exceptions import MlflowException

        name, place = self.files.sweep, None  # a server decides the place by itself
        if self._uri.startswith("sqlite:///"):
            place = (Path(self._uri.removeprefix("sqlite:///")).absolute().parent / "mlflow-artifacts").as_uri()
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, place, tags=dict([MODEL_TRAINING])))
            except MlflowException as error:  # another pipeline of the sweep may have been faster
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise error
        if found.lifecycle_stage == "deleted":
            raise MlflowException(
                f"experiment {name!r} was deleted there; bring it back with `mlflow experiments restore "
                f"--experiment-id {found.experiment_id}`"
            )
        if MODEL_TRAINING[0] not in found.tags:
            self._client.set_experiment_tag(found.experiment_id, *MODEL_TRAINING)
        return str(found.experiment_id)

    def find(self, shows: str | None = None) -> dict[str, Any]:
        """Runs of this pipeline by what they show: a stage's generation, or "pipeline"; all, or one that is named."""
        from mlflow.entities import ViewType

        wanted = {"vssl.pipeline_id": self.files.id, "vssl.store": self._store}
        wanted |= {} if shows is None else {"vssl.shows": shows}
        runs: dict[str, Any] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                filter_string=" AND ".join(f"tags.`{name}` = '{value}'" for name, value in wanted.items()),
                run_view_type=ViewType.ALL,
                max_results=1000,
                page_token=token,
            )
            runs |= {run.data.tags["vssl.shows"]: run for run in page}
            token = page.token
            if not token:
                return runs

    def get(self, run_id: str) -> Any:
        return self._client.get_run(run_id)

    def pipeline_run(self, started_at_ms: int) -> Any:
        """The pipeline's own run, made by whoever comes first.

        Raises:
            TimeoutError: another process holds the right to make it, and does not.
        """
        found = self.find("pipeline").get("pipeline")
        if found is not None:
            return found
        self.files.tracking.mkdir(exist_ok=True)
        with exclusive(self.files.tracking / "pipeline.lock", _MAKING_WAIT_S) as holder:
            if holder:
                raise TimeoutError(f"{holder} has been making the run of {self.files.id} for too long")
            found = self.find("pipeline").get("pipeline")
            if found is not None:
                return found
            tags = {
                "vssl.shows": "pipeline",
                "vssl.sweep": self.files.sweep,
                "vssl.scale": self.files.scale,
                "vssl.stages": str(len(self.files.planned)),
            }
            return self._make(self.files.id, started_at_ms, tags)

    def make_stage_run(self, stage: StageState, parent: Any) -> Any:
        """A nested run for a stage that has none; its start is that of the stage's first attempt."""
        tags = {"vssl.shows": stage.generation, "mlflow.parentRunId": parent.info.run_id}
        return self._make(stage.name, stage.started_at_ms, tags)

    def _make(self, name: str, start_ms: int, tags: Mapping[str, str]) -> Any:
        common = {
            "vssl.pipeline_id": self.files.id,
            "vssl.store": self._store,
            "mlflow.user": _user(),
            "mlflow.source.name": "launch/pipeline.py",
        }
        self._report.runs += 1
        return self._client.create_run(self._experiment, start_time=start_ms, run_name=name, tags=common | dict(tags))

    def update(self, run: Any, stage: StageState, note: Mapping[str, Any] | None, *, known: bool) -> Mapping[str, Any]:
        """Push what a stage's run lacks.

        Args:
            run: the stage's run.
            stage: what its files say.
            note: what an earlier update returned, by whatever process, if that is still known.
            known: whether the run may have values already; a run that was just made has none.

        Returns:
            How far the journal is pushed, for the next update.
        """
        if run.info.lifecycle_stage == "deleted":
            return _pushed(stage.folder.journal, 0, 0)  # somebody does not want to see it
        self._describe(run, stage)
        pushed = self._push_rows(run, stage, note, known)
        complete = stage.status == "done" and run.data.tags.get("vssl.complete") != "yes"
        if complete:
            rows = [{"step": pushed["step"], "time_ms": stage.ended_at_ms, "values": stage.metrics}]
            self._push_metrics(run.info.run_id, rows, ask=True)
        self.set_status(run, stage.status, stage.ended_at_ms)
        if complete:  # last, because a server's file store may be closed to this machine
            self._push_files(run.info.run_id, stage)
            self._client.set_tag(run.info.run_id, "vssl.complete", "yes")
        return pushed

    def set_status(self, run: Any, status: Status, ended_at_ms: int) -> None:
        wanted = RUN_STATUS[status]
        if wanted == "RUNNING":
            if run.info.status != wanted:
                self._client.update_run(run.info.run_id, status=wanted)
        elif (run.info.status, run.info.end_time) != (wanted, ended_at_ms):
            self._client.set_terminated(run.info.run_id, status=wanted, end_time=ended_at_ms)

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
            self._client.log_batch(run.info.run_id, tags=tags)
        for start in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(run.info.run_id, params=params[start : start + MAX_PARAMS])

    def _push_rows(self, run: Any, stage: StageState, note: Mapping[str, Any] | None, known: bool) -> Mapping[str, Any]:
        """Push settled journal rows that the run lacks; returns the new note."""
        journal = stage.folder.journal
        goes_on = note is not None and tail_digest(journal, note["bytes"]) == note["tail"]
        start, step = (note["bytes"], note["step"]) if note is not None and goes_on else (0, 0)
        rows = read_rows(journal, start, stage.journal_bytes)
        if not stage.source:  # else the curve is in the run of the pipeline that trained it
            self._push_metrics(run.info.run_id, rows, ask=known and not goes_on)
        step = max((row["step"] for row in rows), default=step)
        return _pushed(journal, max(start, stage.journal_bytes), step)

    def _push_metrics(self, run_id: str, rows: Sequence[Mapping[str, Any]], *, ask: bool) -> None:
        """Push values; where the run may have some of them, ask which first."""
        from mlflow.entities import Metric

        names = {name for row in rows for name in row["values"]}
        there = {
            (name, metric.step)
            for name in (sorted(names) if ask else ())
            for metric in self._client.get_metric_history(run_id, name)
        }
        values = [
            Metric(name, float(value), row["time_ms"], row["step"])
            for row in rows
            for name, value in row["values"].items()
            if (name, row["step"]) not in there
        ]
        for start in range(0, len(values), MAX_METRICS):
            self._client.log_batch(run_id, metrics=values[start : start + MAX_METRICS])
        self._report.metrics += len(values)

    def _push_files(self, run_id: str, stage: StageState) -> None:
        folder = stage.folder
        for path in (folder.config, folder.inputs, folder.result, folder.done):
            if path.exists():
                self._client.log_artifact(run_id, str(path))
        records = sorted(folder.environment.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in records[-1:]:
            self._client.log_artifact(run_id, str(path), "environment")
        for path in sorted((folder.artifacts / "plots").glob("*.png")):
            self._client.log_artifact(run_id, str(path), "plots")
        for path in sorted((folder.artifacts / "card").glob("*.md")):
            self._client.log_artifact(run_id, str(path))


def _pushed(journal: Path, end: int, step: int) -> dict[str, Any]:
    """The note that a journal is pushed up to a byte, and with it which bytes these were."""
    return {"bytes": end, "tail": tail_digest(journal, end), "step": step}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user id has no name
        return str(os.getuid())
