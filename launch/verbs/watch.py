"""`vssl watch`: the state of a pipeline as it changes, until nothing of it can change any more. Touches no job."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launch.exit_codes import DONE, FAILED, TRY_AGAIN
from launch.running.local_queues import live_queues
from launch.running.pace import Watched, duration, left, steps_per_s
from launch.slurm.queue_view import QueueView
from launch.slurm.standing import State
from launch.status import StageStatus, counts, status_now
from launch.verbs.targets import Target
from vssl.artifacts import StageFolder

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from launch.slurm.scheduler import Scheduler

LOOK_EVERY_S = 5.0  # one squeue each
LINES_EVERY_S = 60.0
_COST_SHARE = 10  # looking takes at most this part of the time: a thousand stages on a slow file server cost more
_ORDER: tuple[State, ...] = ("running", "failed", "queued", "saved", "cancelled", "waiting", "done", "reused")


def watch(
    target: Target,
    scheduler: "Scheduler | None" = None,
    *,
    every_s: float | None = None,
    console: "Console | None" = None,
) -> int:
    """Show the stages of a target until they are final.

    Args:
        target: the stages.
        scheduler: None: Slurm's commands on this machine.
        every_s: seconds between two looks; None: as it suits a cluster.
        console: a terminal for the live table; None: standard output, and plain lines where it is none.

    Returns:
        0 all are done, but for those that the newest line left out; 1 one failed or was cancelled; 75 some are left
        that nobody runs, or Ctrl-C.
    """
    pipeline, store = target.folder.name, target.store
    names = set(target.stages)
    plain = console is None and not sys.stdout.isatty()
    try:
        with _Lines(pipeline) if plain else _Table(pipeline, console) as view:
            while True:
                began_s = time.monotonic()
                statuses, queue = status_now(target.plan, store, pipeline, scheduler)
                chosen = [one for one in statuses if one.name in names]
                view.show(chosen, queue)
                code = _final(chosen, queue, lambda: bool(live_queues(store, pipeline)))
                if code is not None:
                    return code
                pause_s = LOOK_EVERY_S if every_s is None else every_s
                time.sleep(max(pause_s, _COST_SHARE * (time.monotonic() - began_s)))
    except KeyboardInterrupt:
        return TRY_AGAIN


def _final(stages: Sequence[StageStatus], queue: QueueView, starting: Callable[[], bool]) -> int | None:
    """The exit code once nothing can change without a person; None before that."""
    found = {one.state for one in stages if not one.left_out}
    if found and found <= {"done", "reused"}:
        return DONE
    if found & {"running", "queued"} or queue.silent or ("waiting" in found and starting()):
        return None
    return FAILED if found & {"failed", "cancelled"} else TRY_AGAIN


class _Progress:
    """How fast the running stages are, by their journals or by looking twice."""

    def __init__(self) -> None:
        self._watched = Watched()

    def pace(self, one: StageStatus) -> float | None:
        seen = self._watched.steps_per_s(one.name, one.step)
        since_ms = one.started_at_ms
        journal = StageFolder(Path(one.folder)).journal
        return (None if since_ms is None else steps_per_s(journal, since_ms, one.step)) or seen


def _position(one: StageStatus) -> str:
    return f"{one.step}/{one.steps}" if one.steps else str(one.step or "")


class _Lines:
    """Where nobody watches: a line for each change, and now and then how far the running stages are."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._progress = _Progress()
        self._states: dict[str, tuple[State, str]] = {}
        self._silent = ""
        self._said_s = time.monotonic()

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, stages: Sequence[StageStatus], queue: QueueView) -> None:
        ended = sum(one.state in ("done", "reused", "failed", "cancelled") for one in stages)
        start = f"[{ended}/{sum(not one.left_out for one in stages)}]"
        if not self._states:
            print(f"{self._title}: {_summary(stages)}", flush=True)
        for one in stages:
            if one.name in self._states and self._states[one.name] != (one.state, one.reason):
                where = f" on {one.where}" if one.state == "running" and one.where else ""
                print(f"{start} {one.name}: {one.state}{where}{f', {one.reason}' if one.reason else ''}", flush=True)
            self._states[one.name] = (one.state, one.reason)
        if queue.silent != self._silent:
            self._silent = queue.silent
            print(f"Slurm does not answer: {queue.silent}" if queue.silent else "Slurm answers again", flush=True)
        paces = {one.name: self._progress.pace(one) for one in stages if one.state == "running"}
        if time.monotonic() - self._said_s < LINES_EVERY_S:
            return
        self._said_s = time.monotonic()
        for one in stages:
            if one.name in paces and one.step:
                print(
                    f"{start} {one.name}: step {_position(one)}{left(one.step, one.steps, paces[one.name])}", flush=True
                )


class _Table:
    """A table that is drawn over itself: what runs first, and as many lines as the terminal has."""

    def __init__(self, title: str, console: "Console | None") -> None:
        from rich.console import Console
        from rich.live import Live

        self._title = title
        self._progress = _Progress()
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> "_Table":
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, stages: Sequence[StageStatus], queue: QueueView) -> None:
        self._live.update(self._table(stages, queue), refresh=True)

    def _table(self, stages: Sequence[StageStatus], queue: QueueView) -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        said = f"Slurm does not answer: {queue.silent}" if queue.silent else time.strftime("%H:%M:%S")
        table = Table(title=Text(f"{self._title}   {_summary(stages)}   {said}"), title_justify="left")
        for column in ("stage", "state", "", "step", "steps/s", "left"):
            table.add_column(column, no_wrap=True)
        table.add_column("", overflow="ellipsis", no_wrap=True)
        shown = sorted(stages, key=lambda one: _ORDER.index(one.state))
        paces = {one.name: self._progress.pace(one) for one in stages if one.state == "running"}
        for one in shown[: max(5, self._console.height - 7)]:
            pace = paces.get(one.name)
            bar = ProgressBar(total=one.steps, completed=one.step, width=20) if one.steps and pace is not None else ""
            said = ", ".join(filter(None, (f"on {one.where}" if one.where else "", one.reason)))
            remaining = left(one.step, one.steps, pace).removeprefix(", about ").removesuffix(" left")
            took = "" if one.wall_s is None else duration(one.wall_s)
            table.add_row(
                one.name, one.state, bar, _position(one), f"{pace:.3g}" if pace else "", remaining or took, Text(said)
            )
        return table


def _summary(stages: Sequence[StageStatus]) -> str:
    return ", ".join(f"{number} {state}" for state, number in counts(stages).items())
