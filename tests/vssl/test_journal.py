"""The journal: every step once, also where a process that was taken for dead writes beside its successor."""

from pathlib import Path

import pytest

from vssl.run import Journal, StageError, SupersededError, read_journal


def superseded() -> None:
    raise SupersededError("a newer attempt has taken over")


def steps(path: Path) -> list[int]:
    return [row["step"] for row in read_journal(path)]


def test_a_resumed_stage_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append(0, {"loss": 1.0})
    offset = journal.sync()
    journal.append(1, {"loss": 0.5})
    journal.close()
    again = Journal(path)
    again.truncate(offset)
    again.append(1, {"loss": 0.5})
    assert again.sync() == path.stat().st_size
    assert steps(path) == [0, 1]
    again.truncate(0)
    with pytest.raises(StageError, match="was cut by hand or by a failing disk"):
        again.truncate(offset)


def test_lines_of_a_superseded_process_are_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lost, mine = Journal(path, superseded), Journal(path)
    lost.append(0, {"loss": 1.0})
    mine.truncate(lost.sync())
    for step in (1, 2, 3):
        lost.append(step, {"loss": 0.5})  # of equal length, so that it notices nothing
        mine.append(step, {"loss": 0.5})
    assert mine.sync() == path.stat().st_size
    assert steps(path) == [0, 1, 2, 3]
    mine.append(4, {"loss": 0.0625})
    with pytest.raises(SupersededError):
        lost.append(4, {"loss": 0.5})
    with pytest.raises(SupersededError):
        lost.sync()
    assert steps(path) == [0, 1, 2, 3, 4]


def test_a_line_that_comes_last_lies_beyond_what_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lost, mine = Journal(path, superseded), Journal(path)
    lost.append(0, {"loss": 1.0})
    mine.truncate(0)
    mine.append(0, {"loss": 1.0})
    with open(path, "a") as other:
        other.write('{"step": 1}\n')
    assert [row["step"] for row in read_journal(path, mine.sync())] == [0]
