"""What asks a stage to stop, what ends one that hangs, and what shows that one is alive."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from launch.running import heartbeat, stopping
from launch.running.claims import claim
from launch.running.heartbeat import beating
from launch.running.stopping import TIME_LIMIT, StopFlag, stopping_before
from launch.running.watchdog import watching
from tests.waiting import wait_until
from vssl.artifacts import StageFolder
from vssl.run import Run


def test_the_first_signal_is_the_reason():
    stop = StopFlag()
    before = signal.getsignal(signal.SIGUSR2)
    with stop.listening():
        os.kill(os.getpid(), signal.SIGCONT)
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(stop.is_set)
    assert stop.reason == "SIGUSR2"
    assert abs(stop.at_ms - 1000 * time.time()) < 10_000
    assert signal.getsignal(signal.SIGUSR2) is before


def test_a_stage_stops_before_its_time_is_over():
    stop = StopFlag()
    with stopping_before(stop, time.time() + 11.0, 10.0, lambda: None):
        assert not stop.is_set()
        wait_until(stop.is_set)
    assert stop.reason == TIME_LIMIT


def test_a_job_that_was_prolonged_goes_on():
    stop, asked = StopFlag(), []
    later = time.time() + 3600

    def ask():
        asked.append(1)
        return later

    with stopping_before(stop, time.time() + 10.1, 10.0, ask):
        wait_until(lambda: asked)
        time.sleep(0.1)
        assert not stop.is_set()
    assert len(asked) == 1, "the new end holds until it comes near"


def test_an_end_that_nobody_could_say_is_asked_for_again(monkeypatch):
    monkeypatch.setattr(stopping, "_ASK_EVERY_S", 0.02)
    answers = [None, None, time.time() + 10.2]
    stop = StopFlag()
    with stopping_before(stop, None, 10.0, lambda: answers.pop(0) if len(answers) > 1 else answers[0]):
        wait_until(stop.is_set)
    assert stop.reason == TIME_LIMIT


def test_a_job_without_an_end_is_not_stopped(monkeypatch):
    monkeypatch.setattr(stopping, "_ASK_EVERY_S", 0.01)
    stop = StopFlag()
    with stopping_before(stop, None, 10.0, lambda: None):
        time.sleep(0.1)
    assert not stop.is_set()


def test_a_stage_without_progress_is_given_up(tmp_path, capfd):
    run, said = Run(StageFolder(tmp_path)), []
    with watching(run, 0.2, said.append):
        wait_until(lambda: said)
    assert "no progress for" in said[0]
    assert "test_stopping.py" in capfd.readouterr().err, "the stacks of all threads"


def test_a_stage_with_progress_is_left_alone(tmp_path):
    run, said = Run(StageFolder(tmp_path)), []
    with watching(run, 0.5, said.append):
        for _ in range(40):
            run.should_stop()
            time.sleep(0.02)
    assert said == []


@pytest.mark.parametrize("sign", ["beat", "log", "should_stop"])
def test_signs_of_progress(tmp_path, sign):
    run = Run(StageFolder(tmp_path))
    {"beat": lambda: run.beat(1, 2), "log": lambda: run.log(0, {}), "should_stop": run.should_stop}[sign]()
    run.journal.close()
    assert run.signs == 1


def test_a_process_that_was_suspended_has_not_hung(tmp_path):
    """Slurm suspends jobs, and laptops sleep: the clock goes on, the process does not."""
    code = (
        "import sys, time; from pathlib import Path; from launch.running.watchdog import watching;"
        "from vssl.run import Run;"
        "from vssl.artifacts import StageFolder;"
        "run = Run(StageFolder(Path('.')))\n"
        "with watching(run, 2.0, lambda reason: print('hung', flush=True)):\n"
        "    print('ready', flush=True); time.sleep(0.5); print('over', flush=True)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    child.send_signal(signal.SIGCONT)
    out, _ = child.communicate(timeout=120)
    assert out == "over\n"


@pytest.fixture
def mine(tmp_path):
    folder = StageFolder(tmp_path / "probe-1")
    folder.attempts.mkdir(parents=True)
    return claim(folder, "n", {})


def test_a_beat_and_its_helper(mine, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_EVERY_S", 0.02)
    monkeypatch.setattr(heartbeat, "HELP_EVERY_S", 0.01)
    helped = []

    def help_others():
        helped.append(threading.current_thread())
        raise RuntimeError("whatever another job does to it")

    with beating(mine, help_others):
        wait_until(lambda: len(helped) > 5 and mine.folder.beat.exists())
    assert threading.main_thread() not in helped


def test_a_controller_that_never_answers_stops_no_beat(mine, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_EVERY_S", 0.02)
    monkeypatch.setattr(heartbeat, "HELP_EVERY_S", 0.0)
    asked, answered = threading.Event(), threading.Event()

    def ask() -> None:
        asked.set()
        answered.wait(20)

    with beating(mine, ask):
        wait_until(asked.is_set)
        wait_until(mine.folder.beat.exists)
    answered.set()


def test_a_superseded_attempt_beats_no_more(mine, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_EVERY_S", 0.02)
    mine.finish("saved", 75)
    claim(mine.folder, "another", {})
    before = threading.active_count()
    with beating(mine):
        wait_until(lambda: threading.active_count() == before)
    assert not Path(mine.folder.beat).exists()
