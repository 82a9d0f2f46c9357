import pytest

from launch.running import display
from launch.running.display import View, position
from launch.running.pace import duration
from launch.running.pushing import Pusher
from vssl.artifacts import StageFolder
from vssl.run import Run


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (42, "42 s"), (90, "2 min"), (3600 * 30 + 60, "30 h 01 min")],
)
def test_durations_are_said_as_a_person_says_them(seconds, text):
    assert duration(seconds) == text


def test_lines_count_the_ended_and_tell_how_far_the_running_are(tmp_path, monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    folder = StageFolder(tmp_path)
    with View(3, live=False) as view:
        view.say("a: done", ended=True)
        view.refresh({"b": folder})
        clock[0] = 20.0
        view.refresh({"b": folder})
        for step in (10, 20):
            folder.beat.write_text(f"{step} 50\n")
            clock[0] += 20.0
            view.refresh({"b": folder})
    assert capsys.readouterr().out.splitlines() == [
        "[1/3] a: done",
        "[1/3] b: running",
        "[1/3] b: step 10/50, about 1 min left",
        "[1/3] b: step 20/50, about 1 min left",
    ]


def test_bars_in_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(display, "BARS_EVERY_S", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich draw without a terminal
    folder = StageFolder(tmp_path)
    folder.beat.write_text("10 50\n")
    with View(2, live=True) as view:
        view.refresh({"first": folder})
        view.say("first: done", ended=True)
    out = capsys.readouterr().out
    assert "10/50" in out
    assert "[1/2] first: done" in out


def test_a_stage_says_its_position_by_its_beat(tmp_path):
    run = Run(StageFolder(tmp_path))
    assert position(run.folder) == (0, 0)
    run.beat(3, 10)
    assert position(run.folder) == (3, 10)
    run.beat(4, 10)
    assert position(run.folder) == (3, 10), "a second beat within a second costs no I/O"


def test_a_tracker_that_fails_is_loud_and_kills_nothing(tmp_path, monkeypatch, capsys):
    def broken(*arguments, **options):
        raise RuntimeError("the server is on fire\nand more")

    monkeypatch.setattr("vssl.tracking.needs_sync", broken)
    Pusher(tmp_path / "probes-1", None).finish()
    said = capsys.readouterr().err
    assert said.startswith("WARNING: metrics were not pushed to MLflow: the server is on fire.")
    assert "vssl sync probes-1" in said


def test_nothing_new_is_not_pushed(tmp_path, monkeypatch):
    monkeypatch.setattr("vssl.tracking.needs_sync", lambda *_: False)
    monkeypatch.setattr("vssl.tracking.sync", lambda *_, **__: pytest.fail("pushed"))
    Pusher(tmp_path, None).finish()
