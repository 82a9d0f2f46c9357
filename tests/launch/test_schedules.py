"""500 random schedules: whatever happens, the same line typed again brings a pipeline to the end of a calm day.

Launchers die anywhere and are started side by side, jobs are preempted, killed, lost with their nodes, hang or break,
Slurm is silent, forgets, or takes a command whose answer is lost. At every instant: one writer, no child before its
parents' records, one completion record, whole files; at the end nothing is held, orphaned or sent twice.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.launch.schedule import Schedule
from tests.launch.shapes import SHAPES

SCHEDULES, BLOCK = 500, 50


def outcome(seed: int, folder: Path, *, is_calm: bool = False) -> dict[str, Any]:
    """Journals, metrics and digests that a schedule leaves."""
    schedule = Schedule(seed, folder, is_calm=is_calm)
    try:
        with schedule.ruling():
            schedule.run()
    except BaseException as error:
        error.add_note(f"schedule {seed}: {'; '.join(schedule.misfortunes.trace)}")
        raise
    found = schedule.outcome()
    shutil.rmtree(folder)
    return found


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """In memory where the system has a place for that: hundreds of thousands of small files are made and removed."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="vssl-schedules-", dir=place) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def calm(folder: Path) -> list[dict[str, Any]]:
    """The outcome of each shape when nothing happens."""
    return [outcome(shape, folder / f"calm{shape}", is_calm=True) for shape in range(len(SHAPES))]


@pytest.mark.parametrize("first", range(0, SCHEDULES, BLOCK))
def test_whatever_happens_a_pipeline_ends_as_on_a_calm_day(
    first: int, calm: list[dict[str, Any]], folder: Path
) -> None:
    for seed in range(first, first + BLOCK):
        assert outcome(seed, folder / str(seed)) == calm[seed % len(SHAPES)], f"schedule {seed}"
