"""Pipelines shown in MLflow. Torch-free, and mlflow is loaded when something is pushed, not before.

The files of a store are the truth and MLflow is a copy: a push looks at files, looks at what MLflow has, and brings the
difference. It may run as often as anybody likes, be killed anywhere, and lose its own notes: runs are found again by
their tags, and rows that MLflow has are not pushed twice. One experiment per sweep, one run per pipeline, in it one
nested run per stage from the stage's first start on.

`sync` pushes a whole pipeline from where its user sits, `StageSync` one stage from the job that runs it.
"""

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from vssl.artifacts import read_json, write_json
from vssl.tracking_lock import exclusive
from vssl.tracking_runs import Runs, SyncReport
from vssl.tracking_state import PipelineState, StageState, final_status, read_files, read_pipeline

_USER_INFO = re.compile(r"(?<=://)[^\s/?#]+@")
_STAGE_STALE_S = 120.0  # a stage's push takes seconds; the process that held its right to push for longer is gone


def tracking_uri(root: Path) -> str:
    """Where results go: $MLFLOW_TRACKING_URI, else an SQLite file in the store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.absolute()}/mlflow.db"


def shown_uri(uri: str) -> str:
    """An address without user and password, for messages and notes."""
    return _USER_INFO.sub("", uri)


def is_server(uri: str) -> bool:
    """Whether many processes may push to it at once: a database file on a network disk takes one."""
    return uri.startswith(("http://", "https://"))


def needs_sync(pipeline: Path, uri: str | None = None, read: Sequence[Path] = ()) -> bool:
    """Whether a pipeline has something that was not pushed yet. Reads small files; does not import mlflow."""
    state = read_pipeline(pipeline, read)
    if state is None:
        return False
    notes = read_json(pipeline / "tracking.json") or {}
    address = shown_uri(uri or tracking_uri(state.files.root))
    return bool(notes.get("uri") != address or notes.get("stamp") != state.stamp)


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
        return SyncReport(uri=shown_uri(uri or ""), problem=f"{pipeline} is no pipeline: it has no plan.json")
    address = uri or tracking_uri(state.files.root)
    report = SyncReport(uri=shown_uri(address))
    with exclusive(pipeline / "tracking.lock", wait_s) as holder:
        if holder:
            report.problem = f"{holder} is pushing {pipeline.name} already"
            return report
        state = read_pipeline(pipeline, read) or state  # what happened while waiting
        with _reporting(report, address):
            _sync_stages(state, address, report, say)
    return report


class StageSync:
    """One stage pushed again and again by the job that runs it, while others push theirs.

    Args:
        pipeline: `<root>/pipelines/<name>`.
        name: of the stage.
        uri: of a tracking server.

    Raises:
        ValueError: the pipeline has no such stage.
    """

    def __init__(self, pipeline: Path, name: str, uri: str) -> None:
        files = read_files(pipeline)
        if files is None or name not in files.planned:
            raise ValueError(f"{pipeline} is no pipeline with a stage {name!r}")
        self._files = files
        self._name = name
        self._uri = uri
        self._pushed: list[Any] = []  # the stage's stamp

    def push(self) -> SyncReport:
        """Push what is new; where nothing is, small files are read and the server is left alone."""
        report = SyncReport(uri=shown_uri(self._uri))
        stage = self._files.stage(self._name)
        if not _is_shown(stage) or stage.stamp == self._pushed:
            return report
        with _reporting(report, self._uri):
            runs = Runs(self._files, self._uri, report)
            parent = runs.pipeline_run(stage.started_at_ms)
            if _sync_stage(runs, parent, stage, runs.find(stage.generation).get(stage.generation), report):
                ended = final_status(self._files, self._files.stage) if stage.ended_at_ms else None
                runs.set_status(parent, ended or "running", max(parent.info.start_time, stage.ended_at_ms))
                self._pushed = stage.stamp
        return report


def _is_shown(stage: StageState) -> bool:
    """Whether a stage has a run: it has started, here; or it is done, wherever."""
    return stage.status != "waiting" and (not stage.source or stage.status == "done")


def _sync_stages(state: PipelineState, uri: str, report: SyncReport, say: Callable[[str], None]) -> None:
    """Push every stage that has something to show, then the state of the whole; while the pipeline's lock is held."""
    files = state.files
    shown = [stage for stage in state.stages if _is_shown(stage)]
    if not shown:
        return
    runs = Runs(files, uri, report)
    found = runs.find()
    own = [stage.started_at_ms for stage in shown if not stage.source]
    planned_ms = (files.folder / "plan.json").stat().st_mtime_ns // 1_000_000
    parent = runs.pipeline_run(min(own, default=planned_ms))
    complete = True
    for number, stage in enumerate(shown, start=1):
        complete &= _sync_stage(runs, parent, stage, found.get(stage.generation), report)
        if number % 50 == 0:
            say(f"MLflow: {number} of {len(shown)} stages")
    runs.set_status(parent, state.status, max(parent.info.start_time, *(stage.ended_at_ms for stage in shown)))
    if complete:
        write_json(files.folder / "tracking.json", {"uri": report.uri, "stamp": state.stamp})


def _sync_stage(runs: Runs, parent: Any, stage: StageState, run: Any, report: SyncReport) -> bool:
    """Push one stage, unless its note says that nothing is new; False where another process is pushing it just now.

    `run` is the stage's run as it was found, None where there was none.
    """
    path = runs.files.tracking / f"{stage.folder.root.name}.json"
    path.parent.mkdir(exist_ok=True)
    note = _note(path, run, report)
    if note is not None and note["stamp"] == stage.stamp:
        return True
    with _turn(path.with_suffix(".lock"), is_server(report.uri)) as mine:
        if not mine:
            return False
        if run is None and is_server(report.uri):  # its job may have made it since it was looked for
            run = runs.find(stage.generation).get(stage.generation)
        known = run is not None
        if run is None:
            run = runs.make_stage_run(stage, parent)
        pushed = runs.update(run, stage, _note(path, run, report), known=known)
        write_json(path, {"uri": report.uri, "run": run.info.run_id, "stamp": stage.stamp, **pushed})
    return True


def _note(path: Path, run: Any, report: SyncReport) -> Mapping[str, Any] | None:
    """How far a run was pushed, as the last process to do so noted it."""
    note: Mapping[str, Any] | None = read_json(path)
    fits = note is not None and run is not None and (note["uri"], note["run"]) == (report.uri, run.info.run_id)
    return note if fits else None


@contextmanager
def _turn(lock: Path, needed: bool) -> Iterator[bool]:
    """Whether this process may push a stage now; beside a server, the stage's job and `sync` may both want to."""
    if not needed:
        yield True
        return
    with exclusive(lock, wait_s=0.0, stale_s=_STAGE_STALE_S) as holder:
        yield not holder


@contextmanager
def _reporting(report: SyncReport, uri: str) -> Iterator[None]:
    """MLflow loaded and quiet; what goes wrong with it is a problem to report, and no error."""
    with _quiet_and_bounded():
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            reason = _without_password(reason, uri)
            report.problem = f"MLflow at {report.uri} cannot be used now ({reason}); nothing is lost, sync again"


def _without_password(text: str, uri: str) -> str:
    """An error's text, which may quote the address that could not be reached, or the password that was refused."""
    for found in _USER_INFO.finditer(uri):
        password = found.group().rstrip("@").partition(":")[2]
        for secret in (found.group(), password, unquote(password)):
            text = text.replace(secret, "***") if secret else text
    return text


@contextmanager
def _quiet_and_bounded() -> Iterator[None]:
    """MLflow without its start-up notes, without telemetry, and giving up on a dead server within seconds."""
    defaults = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    ours = {key: value for key, value in defaults.items() if key not in os.environ}
    os.environ.update(ours)
    # A server that is away is reported once, and not by each try to reach it.
    quiet = {"mlflow": logging.WARNING, "alembic": logging.WARNING, "urllib3": logging.ERROR}
    loggers = {logging.getLogger(name): level for name, level in quiet.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mlflow  # noqa: F401  (it sets up its loggers when it is imported)

            before = {logger: logger.level for logger in loggers}
            for logger, level in loggers.items():
                logger.setLevel(level)
            try:
                yield
            finally:
                for logger, level in before.items():
                    logger.setLevel(level)
    finally:
        for key in ours:
            os.environ.pop(key, None)
