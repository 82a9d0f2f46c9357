"""Watching: what is said where nobody watches, the table in a terminal, and when it ends."""

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from launch.exit_codes import DONE, FAILED, TRY_AGAIN
from launch.verbs import watch as module
from launch.verbs.targets import Target
from launch.verbs.watch import watch
from tests.launch.slurm_records import Queue, attempt, finish, queued, send, settle


@pytest.fixture
def plan(stage, make_plan):
    first = stage("first", seed=1)
    return make_plan(first, stage("second", [first], seed=2))


@pytest.fixture
def target(plan, store):
    return Target(folder=store.save_plan(plan), plan=plan, store=store)


class Film(Queue):
    """Plays a scene at every look; the last one goes on."""

    def __init__(self, *scenes):
        super().__init__()
        self.scenes = list(scenes)

    def queue(self):
        self.entries = self.scenes[0]() or []
        if len(self.scenes) > 1:
            self.scenes.pop(0)
        return super().queue()


@pytest.fixture
def film(plan, store):
    """First runs and second waits, then first is done, then second."""
    batch = send(store, plan, ["first", "second"])
    folder = attempt(store, plan, "first", batch, "100_0")
    folder.beat.write_text("3 40\n")

    def running():
        return [queued("100_0", "RUNNING", batch, nodes="n1"), queued("100_1", batch=batch, reason="Dependency")]

    def half():
        finish(store, plan, "first")
        return [queued("100_1", batch=batch, reason="Priority")]

    return Film(running, half, lambda: finish(store, plan, "second") and [])


def test_a_line_for_each_change(target, film, capsys):
    assert watch(target, film, every_s=0.0) == DONE
    assert capsys.readouterr().out.splitlines() == [
        f"{target.folder.name}: 1 running, 1 queued",
        "[1/2] first: done, made by other code",
        "[1/2] second: queued, jobs of higher priority stand before it",
        "[2/2] second: done, made by other code",
    ]
    assert film.reads == 3


def test_now_and_then_how_far_it_is(target, film, capsys, monkeypatch):
    monkeypatch.setattr(module, "LINES_EVERY_S", 0.0)
    assert watch(target, film, every_s=0.0) == DONE
    assert "[0/2] first: step 3/40" in capsys.readouterr().out


def test_a_table_in_a_terminal(target, film):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120, height=30)
    assert watch(target, film, every_s=0.0, console=console) == DONE
    text = stream.getvalue()
    assert "1 running, 1 queued" in text
    assert "3/40" in text
    assert "on n1" in text
    assert "2 done" in text


def test_a_failure_ends_it_once_nothing_is_left(plan, store, target):
    batch = send(store, plan, ["first", "second"])
    settle(batch, 0, "exception", error="rank 0 on n1: no")
    assert watch(target, Queue(), every_s=0.0) == FAILED


def test_what_nobody_will_start_ends_it(plan, store, target):
    finish(store, plan, "first")
    assert watch(target, Queue(), every_s=0.0) == TRY_AGAIN


def test_a_silent_controller_is_waited_for(plan, store, target, capsys):
    batch = send(store, plan, ["first", "second"])
    calls = []

    class Away(Queue):
        def queue(self):
            calls.append(time.monotonic())
            self.silent = "no answer" if len(calls) == 1 else ""
            return super().queue()

    settle(batch, 0, "exception", error="rank 0 on n1: no")
    assert watch(target, Away(), every_s=0.0) == FAILED
    out = capsys.readouterr().out
    assert "Slurm does not answer: no answer" in out
    assert "Slurm answers again" in out


def test_only_the_stages_that_were_named(plan, store, target):
    finish(store, plan, "first")
    named = Target(folder=target.folder, plan=plan, store=store, selector="first")
    assert watch(named, Queue(), every_s=0.0) == DONE


def test_ctrl_c_ends_it(plan, store, target):
    send(store, plan, ["first", "second"])

    class Interrupted(Queue):
        def queue(self):
            raise KeyboardInterrupt

    assert watch(target, Interrupted(), every_s=0.0) == TRY_AGAIN


def test_what_the_line_left_out_is_not_waited_for(plan, store, target, capsys):
    store.save_plan(plan, ["first"])
    finish(store, plan, "first")
    assert watch(target, Queue(), every_s=0.0) == DONE
    assert "1 done, 1 waiting" in capsys.readouterr().out
    assert watch(replace(target, selector="second"), Queue(), every_s=0.0) == TRY_AGAIN
