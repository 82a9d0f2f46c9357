"""Where a stage's words are: the log of its newest attempt, and what the batch script printed around it."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launch.plan import PlannedStage
from launch.running.batch_folder import BatchFolder
from launch.running.claims import newest
from launch.running.log_files import TAIL_BYTES, Logs, lines_of, of_attempt, of_batch, read_from, tail
from launch.slurm.queue_view import QueueView, Sent, sent_stages
from launch.slurm.standing import standing
from launch.store import Store
from launch.verbs.targets import Target
from vssl.config import ConfigError

FOLLOW_EVERY_S = 0.5


def logs_of(stage: PlannedStage, store: Store, sent: Sent | None, rank: int = 0) -> Logs:
    """The logs of the newest run of a stage, by one of its ranks; `sent` is its newest batch, if it has one."""
    folder = next((found.folder for found in store.finished(stage.folder)), store.stage(stage.folder))
    last = newest(folder)
    if sent is not None and (last is None or _began(sent, last)):
        return of_batch(sent.batch, sent.index, rank)
    return of_attempt(folder, last, rank)  # another pipeline sent it, or the newer job has not begun


def _began(sent: Sent, last: Mapping[str, Any]) -> bool:
    """Whether a batch has run the stage later than an attempt of another job, or made that attempt."""
    if (last.get("slurm") or {}).get("job") == sent.job:
        return True
    return sent.sent_at_ms > last["started_at_ms"] and BatchFolder(sent.batch).script_log(sent.index).exists()


class Follower:
    """Prints the ends of some files and then what is added, each file's name before its lines."""

    def __init__(self, files: list[Path], lines: int) -> None:
        self._named: Path | None = None
        self._offsets = {path: self._show(path, -TAIL_BYTES, lines) for path in files}

    def more(self) -> bool:
        """Print whole lines that are new; whether there were any."""
        before = dict(self._offsets)
        self._offsets = {path: self._show(path, offset) for path, offset in before.items()}
        return self._offsets != before

    def _show(self, path: Path, offset: int, lines: int | None = None) -> int:
        start, data = read_from(path, offset)
        whole = data[: data.rfind(b"\n") + 1]
        self._print(path, lines_of(whole, lines))
        return start + len(whole)

    def _print(self, path: Path, lines: list[str]) -> None:
        if not lines:
            return
        if path != self._named:
            print(f"{path}:", file=sys.stderr, flush=True)
            self._named = path
        print("\n".join(lines), flush=True)


def print_logs(target: Target, lines: int, rank: int = 0, *, follow: bool = False, as_json: bool = False) -> None:
    """Print the end of a stage's logs; of several stages that were named, or none, of the one that wrote last.

    Raises:
        ConfigError: nothing was written yet.
    """
    stages = [target.plan[name] for name in target.stages]
    sent = sent_stages(target.store, {stage.folder for stage in stages}, target.folder.name)
    candidates = {stage.name: logs_of(stage, target.store, sent.get(stage.folder), rank) for stage in stages}
    name = max(candidates, key=lambda one: _written_s(candidates[one]))
    logs = candidates[name]

    def is_over() -> bool:
        return _is_over(target.plan[name], target.store, target.folder.name)

    if not any(path.exists() for path in logs.files):
        if follow and logs.files and not is_over():
            print(f"{name} has not started yet; waiting for it", file=sys.stderr, flush=True)
            follow_logs(logs, lines, is_over)
            return
        who = f"{name} has no log" if len(candidates) == 1 else f"no stage of {target.folder.name} has a log"
        raise ConfigError(f"{who} in {target.store.root}: never started here")
    if follow:
        follow_logs(logs, lines, is_over)
        return
    if as_json:
        said = {"stage": name, "log": str(logs.stage), "lines": tail(logs.stage, lines) if logs.stage else []}
        if logs.script is not None:
            said |= {"script_log": str(logs.script), "script_lines": tail(logs.script, lines)}
        print(json.dumps(said, indent=1))
        return
    ends = {path: tail(path, lines) for path in logs.files}
    for path, found in ends.items():
        if found:
            print(f"{path}:", file=sys.stderr, flush=True)
            print("\n".join(found), flush=True)
    if not any(ends.values()):
        empty = " and ".join(str(path) for path in logs.files if path.exists())
        print(f"{name} has printed nothing so far: {empty} is empty", file=sys.stderr, flush=True)


def _written_s(logs: Logs) -> float:
    return max((path.stat().st_mtime for path in logs.files if path.exists()), default=0.0)


def _is_over(stage: PlannedStage, store: Store, pipeline: str) -> bool:
    """Whether nobody will add to a stage's logs, as far as the store can tell: the queue is not asked."""
    if any(True for _ in store.finished(stage.folder)):
        return True
    folder, sent = store.stage(stage.folder), sent_stages(store, {stage.folder}, pipeline).get(stage.folder)
    view = QueueView(silent="not asked")
    return standing(folder, newest(folder), sent, None, view, time.time()).state not in ("queued", "running")


def follow_logs(logs: Logs, lines: int, is_over: Callable[[], bool]) -> None:
    """Print the ends of the logs and then what is added, until the run is over and all of it was printed."""
    follower = Follower(logs.files, lines)
    while True:
        over = is_over()
        if not follower.more() and over:
            return
        time.sleep(FOLLOW_EVERY_S)
