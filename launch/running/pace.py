"""How fast a running stage is, and how long it will still take."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TAIL_BYTES = 1 << 15  # a hundred rows, more or less: the pace of late, not of the whole stage


def steps_per_s(journal: Path, since_ms: int, step: int) -> float | None:
    """Steps a second by the journal's last rows; None where it does not tell.

    Args:
        journal: of the stage.
        since_ms: when the attempt began; what earlier ones did says nothing about this machine.
        step: where the stage says it is, once a second; a journal that is far beyond it counts something else.
    """
    rows = [row for row in _last_rows(journal) if row["time_ms"] >= since_ms]
    if len(rows) < 2:
        return None
    seconds = float(rows[-1]["time_ms"] - rows[0]["time_ms"]) / 1000
    steps = int(rows[-1]["step"] - rows[0]["step"])
    if seconds <= 0 or steps <= 0 or rows[-1]["step"] > step + 2 + 3 * steps / seconds:
        return None
    return steps / seconds


def left(step: int, steps: int, pace: float | None) -> str:
    """', about 2 h 05 min left', where that is known."""
    return f", about {duration((steps - step) / pace)} left" if pace and steps > step else ""


def duration(seconds: float) -> str:
    """A length of time as a person says it."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _last_rows(journal: Path) -> list[Mapping[str, Any]]:
    try:
        with open(journal, "rb") as stream:
            start = max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES)
            stream.seek(start)
            data = stream.read()
    except FileNotFoundError:
        return []
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    return [json.loads(line) for line in (lines[1:] if start else lines)]


class Watched:
    """The pace of stages as somebody sees it who looks again and again; for kinds that keep no journal."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, int]] = {}

    def steps_per_s(self, name: str, step: int, now_s: float | None = None) -> float | None:
        """Steps a second since a stage was first seen; a count that starts anew is seen anew."""
        now_s = time.monotonic() if now_s is None else now_s
        if step < self._first.get(name, (now_s, step + 1))[1]:
            self._first[name] = (now_s, step)
        first_s, first_step = self._first[name]
        return (step - first_step) / (now_s - first_s) if step > first_step and now_s > first_s else None
