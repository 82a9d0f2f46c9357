"""What a person sees while stages run: progress bars in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from launch.running.pace import Watched, left
from vssl.artifacts import StageFolder

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

BARS_EVERY_S = 0.5
LINES_EVERY_S = 15.0


class View:
    """Lines for what happens, and between them how far the running stages are.

    Args:
        total: number of stages that will end, for the counter in front of the lines.
        live: bars instead of lines; None: if standard output is a terminal.
    """

    def __init__(self, total: int, live: bool | None = None) -> None:
        self._total = total
        self._ended = 0
        self._live = sys.stdout.isatty() if live is None else live
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._watched = Watched()
        self._refreshed_s = time.monotonic()

    def __enter__(self) -> "View":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, text: str, ended: bool = False) -> None:
        """One line; `ended` counts a stage as through."""
        self._ended += ended
        line = f"[{self._ended}/{self._total}] {text}"
        if self._progress is not None:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def refresh(self, running: Mapping[str, StageFolder]) -> None:
        """Show how far the running stages are; cheap enough to be called all the time."""
        now = time.monotonic()
        if now - self._refreshed_s < (BARS_EVERY_S if self._live else LINES_EVERY_S):
            return
        self._refreshed_s = now
        if self._live:
            self._show_bars(running)
            return
        for name, folder in running.items():
            step, steps = position(folder)
            pace = self._watched.steps_per_s(name, step, now)
            if not step:
                self.say(f"{name}: running")
                continue
            self.say(f"{name}: step {step}{f'/{steps}' if steps else ''}{left(step, steps, pace)}")

    def _show_bars(self, running: Mapping[str, StageFolder]) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._progress is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, speed_estimate_period=120, transient=True)
            self._progress.start()
        for name in [name for name in self._tasks if name not in running]:
            self._progress.remove_task(self._tasks.pop(name))
        for name, folder in running.items():
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=None)
            step, steps = position(folder)
            self._progress.update(self._tasks[name], completed=step, total=steps or None)


def position(folder: StageFolder) -> tuple[int, int]:
    """(steps done, steps in all) as the stage last said; 0 for what it did not say."""
    try:
        words = folder.beat.read_text().split()
    except FileNotFoundError:
        return 0, 0
    return (int(words[0]) if words else 0), (int(words[1]) if len(words) > 1 else 0)
