"""Stages of the main line that are killed at random moments, and how they come out of it."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from launch.running.claims import is_live, newest
from tests.lines import SMOKE
from vssl.artifacts import StageFolder
from vssl.run import read_journal

STAGES = ("killed-single", "killed-cross", "killed-linear")
SAVE_EVERY = 4  # steps
STEPS_PER_EPOCH = 3  # of the smoke set

# The parents are those of the main line, so they are done before; only the three stages below them are to run.
SWEEP = """
data: ucf101
stages:
  - {name: flow, kind: flow, config: [recipe=vicc_flow], output: motion}
  - name: single-{stream}
    kind: pretrain
    each: {stream: [rgb, flow]}
    config: [recipe=vicc_single, "data.modality={stream}"]
    inputs: {motion: motion}
    output: "{stream}"
  - {name: killed-single, kind: pretrain, config: [recipe=vicc_single, seed=1]}
  - name: killed-cross
    kind: pretrain
    config: [recipe=vicc_cross, method.main_stream=rgb]
    inputs: {motion: motion, main: rgb, second: flow}
  - {name: killed-linear, kind: linear, config: [recipe=vicc_linear], inputs: {weights: rgb}}
"""


def write_sweep(folder: Path) -> Path:
    path = folder / "killed.yaml"
    path.write_text(SWEEP)
    return path


def line(sweep: Path, root: Path, epochs: int) -> list[str]:
    """What is typed again and again."""
    values = [f"stages.{name}.epochs={epochs}" for name in STAGES]
    values += [f"stages.{name}.runtime.save_every_steps={SAVE_EVERY}" for name in STAGES]
    values += [f"stages.killed-single.schedule_epochs={epochs}"]
    return [f"sweep={sweep}", *SMOKE, f"root={root}", f"only=[{','.join(STAGES)}]", *values]


@dataclass
class Victim:
    """A stage with the moments at which it is to be killed.

    A moment is a step that its process must have made and a delay after it in seconds; without a step, the delay counts
    from the beginning of the attempt.
    """

    folder: StageFolder
    moments: list[tuple[int | None, float]]
    lost: list[int] = field(default_factory=list)  # by each kill: steps that were made and not saved
    _due: tuple[int, float] | None = None  # (process, when)
    _killed: int = 0  # a process that may take a moment to be gone

    def look(self) -> None:
        """Kill the process of the stage if its time has come."""
        attempt = newest(self.folder)
        if len(self.lost) == len(self.moments) or attempt is None or not is_live(attempt, self.folder, time.time()):
            return
        process, (step, delay_s) = attempt["process"]["pid"], self.moments[len(self.lost)]
        if process == self._killed:
            return
        if self._due is None or self._due[0] != process:
            if step is not None and self._made(since_ms=attempt["started_at_ms"]) <= step:
                return
            self._due = process, time.monotonic() + delay_s
        if time.monotonic() >= self._due[1]:
            self._killed = process
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                return  # it has just ended by itself
            saved = (int(path.stem) for path in self.folder.checkpoints.glob("*.json"))
            self.lost.append(self._made() - max(saved, default=0))

    def _made(self, since_ms: int = 0) -> int:
        """Steps in the journal, none if the last one is older than a moment."""
        rows = read_journal(self.folder.journal)
        return rows[-1]["step"] + 1 if rows and rows[-1]["time_ms"] >= since_ms else 0


def moments(rng: random.Random, count: int, steps: int, *, early_share: float = 0.2) -> list[tuple[int | None, float]]:
    """Kill moments of one stage: most over its steps, in ascending order, some while its process is still starting."""
    early = sum(rng.random() < early_share for _ in range(count))
    at = sorted(rng.uniform(0, steps - SAVE_EVERY) for _ in range(count - early))
    found: list[tuple[int | None, float]] = [(int(step), rng.uniform(0, 0.05)) for step in at]
    for _ in range(early):
        found.insert(rng.randint(0, len(found)), (None, rng.uniform(0, 3)))
    return found


@contextmanager
def killing(victims: Iterable[Victim]) -> Iterator[None]:
    """Look after the victims, from a thread, for the length of a block."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.003):
            for victim in victims:
                victim.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
