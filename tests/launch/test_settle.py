import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from launch import settle as settling
from launch.running.batch_folder import BatchFolder
from launch.running.claims import claim, newest
from launch.running.exit_records import Ending, ExitRecords
from launch.settle import Settlement
from launch.slurm.scheduler import Scheduler
from tests.launch.conftest import planned
from tests.launch.slurm_batches import ARRAY, ScriptedSlurm, allocation, job_environment, make_batch
from vssl.artifacts import create_json, read_json, write_json

JOB = f"{ARRAY}_1"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(settling, "_ASK_AGAIN_S", 0.0)


class Ended:
    """A launch of a probe that has just ended, before its script settles it."""

    def __init__(self, store, *, ranks=2, policy=None, restart=0, nodes=1):
        self.store = store
        self.stage = planned("probe", seed=7)
        self.batch = BatchFolder(make_batch(store, [self.stage], ranks=ranks, policy=policy))
        self.allocation = allocation(restart=restart, nodes=nodes)
        self.records = ExitRecords(self.batch, 1, str(restart))
        self.slurm = ScriptedSlurm({"Restarts": str(restart)})
        self.folder = store.stage(self.stage.folder)

    def claimed(self):
        self.store.prepare_folder(self.stage.folder, "probe")
        facts = {"batch": self.batch.root.name, "slurm": self.allocation.facts()}
        return claim(self.folder, self.allocation.nonce, facts)

    def record(self, rank, cause, code=75, **more):
        self.records.write(rank, Ending(code=code, cause=cause, **more))

    def next_start(self):
        self.allocation = replace(self.allocation, restart=self.allocation.restart + 1)
        self.slurm = ScriptedSlurm({"Restarts": str(self.allocation.restart)})
        self.records = ExitRecords(self.batch, 1, str(self.allocation.restart))

    def settle(self, rc=75, **more):
        return Settlement(self.batch.root, 1, rc, self.allocation, self.slurm, silence_s=0.5, **more).end()

    @property
    def verdict(self):
        return read_json(self.batch.verdict(1, self.allocation.restart))

    @property
    def markers(self):
        return [path.name for path in self.store.requeued.glob("*.json")] if self.store.requeued.exists() else []


@pytest.fixture
def ended(store):
    return Ended(store)


def stopped(ended):
    mine = ended.claimed()
    mine.finish("saved", 75)
    for rank in range(2):
        ended.record(rank, "signal", stopped_by="SIGUSR2", stopped_at_ms=1000)


def test_a_stop_is_requeued_once_with_a_marker_for_the_helpers(ended):
    stopped(ended)
    assert ended.settle() == 75
    assert ended.slurm.requeued == [JOB]
    assert ended.slurm.reads == 1, "one question is all that a controller is asked"
    assert ended.markers == [f"{JOB}.json"]
    verdict = ended.verdict
    assert (verdict["cause"], verdict["decision"], verdict["rc"], verdict["exit_code"]) == ("signal", "requeue", 75, 75)
    assert newest(ended.folder)["outcome"] == "saved"


def test_the_verdict_is_there_before_the_requeue_ends_the_script(ended, monkeypatch):
    stopped(ended)
    seen = []
    monkeypatch.setattr(ended.slurm, "requeue", lambda job: seen.append((ended.verdict["decision"], ended.markers)))
    ended.settle()
    assert seen == [("requeue", [f"{JOB}.json"])]


def test_what_is_done_ends_with_0_whatever_srun_says(ended):
    mine = ended.claimed()
    create_json(ended.folder.done, {"token": mine.token})
    assert ended.settle(rc=137) == 0, "killed after its completion record, before its exit record"
    assert ended.verdict["cause"] == "done"
    assert ended.slurm.requeued == []


def test_a_record_of_an_earlier_generation_is_no_success(ended):
    mine = ended.claimed()
    create_json(ended.folder.done, {"token": mine.token + 1})
    ended.record(0, "refused", code=78, error="the parent has changed")
    assert ended.settle(rc=78) == 78
    assert ended.verdict["error"] == "the parent has changed"


def test_success_of_srun_alone_is_none(ended):
    ended.claimed()
    ended.record(0, "done", code=0)
    ended.record(1, "done", code=0)
    assert ended.settle(rc=0) == 1


def test_an_exception_ends_the_job_and_closes_the_attempt_that_could_not(ended):
    ended.claimed()
    ended.record(1, "exception", code=1, error="ValueError: no")
    assert ended.settle(rc=137) == 1
    attempt = newest(ended.folder)
    assert (attempt["outcome"], attempt["exit_code"]) == ("failed", 1)
    assert attempt["error"].endswith("ValueError: no")
    assert ended.slurm.requeued == []
    assert ended.markers == []


def test_a_killed_rank_costs_its_budget_and_then_the_job(ended):
    for _ in range(2):
        ended.claimed()
        assert ended.settle(rc=137) == 75
        assert ended.slurm.requeued == [JOB]
        ended.next_start()
    ended.claimed()
    assert ended.settle(rc=137) == 75
    assert ended.slurm.requeued == []
    assert "requeued 2 times" in ended.verdict["error"]
    assert ended.verdict["decision"] == "end"


def test_stops_without_progress_come_to_an_end(ended):
    for expected in (75, 75, 1):
        stopped(ended)
        assert ended.settle() == expected
        ended.next_start()
    ended.next_start()


def test_stops_with_progress_go_on(ended):
    for step in range(5):
        stopped(ended)
        write_json(ended.folder.checkpoints / "state.json", {"step": step})
        assert ended.settle() == 75
        assert ended.slurm.requeued == [JOB]
        ended.next_start()


def test_stops_after_which_more_is_finished_go_on(ended):
    """As embeddings of videos and optical flow: what is made is kept, and there is no checkpoint."""
    finished = ended.folder.artifacts / "features" / "train"
    finished.mkdir(parents=True)
    for video in range(5):
        stopped(ended)
        (finished / f"{video}.npz").touch()
        assert ended.settle() == 75
        assert ended.slurm.requeued == [JOB]
        ended.next_start()


def test_what_is_cancelled_is_not_brought_back(ended):
    stopped(ended)
    ended.slurm.job["JobState"] = "COMPLETING"
    assert ended.settle() == 75
    assert ended.slurm.requeued == []
    assert ended.verdict["decision"] == "end"


def test_what_slurm_has_requeued_is_not_requeued_again(ended):
    ended.claimed()
    ended.slurm.job |= {"JobState": "COMPLETING", "Restarts": "1"}
    ended.batch.script_log(1).write_text(
        "slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO PREEMPTION ***\n"
    )
    assert ended.settle(rc=137) == 75
    assert (ended.verdict["cause"], ended.verdict["decision"]) == ("preempted", "requeue")
    assert ended.slurm.requeued == []
    assert ended.markers == [f"{JOB}.json"], "it waits for its begin time like any other"


def test_what_an_earlier_start_left_in_the_log_does_not_count(ended):
    ended.claimed()
    ended.batch.script_log(1).write_text("slurmstepd: error: Detected 1 oom_kill event in StepId=1.0.\n")
    assert ended.settle(rc=137) == 1
    assert ended.verdict["cause"] == "out_of_memory"
    ended.next_start()
    ended.claimed()
    assert ended.settle(rc=137) == 75
    assert ended.verdict["cause"] == "killed"


def test_a_job_that_runs_elsewhere_waits_its_two_minutes(ended):
    ended.record(0, "elsewhere", error="attempt 3 runs on n7")
    assert ended.settle() == 75
    assert ended.slurm.requeued == [JOB]
    assert ended.markers == []


def test_a_site_that_forbids_requeueing_is_named(ended):
    stopped(ended)
    ended.slurm.refuses = "Requested operation is presently disabled"
    assert ended.settle() == 75
    assert ended.verdict["decision"] == "end"
    assert "presently disabled" in ended.verdict["error"]
    assert "the same line goes on" in ended.verdict["error"]
    assert ended.markers == []


def test_a_controller_that_is_silent_for_a_moment_is_asked_again(ended):
    stopped(ended)
    ended.slurm.silent = 2
    assert ended.settle() == 75
    assert ended.slurm.requeued == [JOB]


def test_a_controller_that_stays_silent_is_named(ended):
    stopped(ended)
    ended.slurm.silent = 1_000_000_000
    assert ended.settle() == 75
    assert ended.verdict["decision"] == "end"
    assert "the controller does not answer" in ended.verdict["error"]
    assert ended.markers == []


def test_a_node_without_slurms_commands_still_tells_the_cause(ended, monkeypatch):
    stopped(ended)
    monkeypatch.setenv("PATH", "")
    ended.slurm = Scheduler()
    assert ended.settle() == 75
    assert (ended.verdict["cause"], ended.verdict["decision"]) == ("signal", "end")
    assert "no `scontrol`" in ended.verdict["error"]


def test_a_requeue_whose_answer_was_lost_is_not_repeated(ended):
    stopped(ended)
    ended.slurm.does_and_is_silent = True
    assert ended.settle() == 75
    assert ended.slurm.requeued == [JOB]
    assert ended.verdict["decision"] == "requeue"


def test_a_start_that_was_replaced_while_the_controller_was_silent_is_not_requeued(ended, monkeypatch):
    """Its node was lost and is back: the requeue would end the job's newest start, which is healthy."""
    stopped(ended)
    monkeypatch.setattr(Settlement, "_ask_slurm", lambda settlement: None)
    ended.slurm = ScriptedSlurm({"Restarts": "1"})
    assert ended.settle() == 75
    assert ended.slurm.requeued == []


def test_a_record_of_another_node_may_come_late(store, monkeypatch):
    late = Ended(replace(store, visibility_s=5.0), nodes=2)
    late.claimed()
    read_all = ExitRecords.read_all
    looks = []

    def laggy(self, ranks):
        looks.append(ranks)
        if len(looks) == 3:
            late.record(1, "exception", code=1, error="ValueError: on another node")
        return read_all(self, ranks)

    monkeypatch.setattr(ExitRecords, "read_all", laggy)
    assert late.settle(rc=137) == 1
    assert late.verdict["cause"] == "exception"


def test_a_job_that_is_taken_away_waits_for_no_record(store):
    late = Ended(replace(store, visibility_s=60.0), nodes=2)
    late.claimed()
    late.slurm.job["PreemptTime"] = "1795256228"
    started = time.monotonic()
    assert late.settle(rc=137) == 75
    assert time.monotonic() - started < 50
    assert late.verdict["cause"] == "preempted"


def test_a_rank_that_srun_saw_killed_is_not_waited_for(store):
    late = Ended(replace(store, visibility_s=60.0), nodes=2)
    late.claimed()
    late.batch.script_log(1).write_text("srun: error: n3: tasks 0-1: Killed\n")
    started = time.monotonic()
    assert late.settle(rc=137) == 75
    assert time.monotonic() - started < 50, "its node, and every other one of the job, would be held for nothing"
    assert late.verdict["cause"] == "killed"


def test_secrets_stay_out_of_the_verdict(ended, monkeypatch, capsys):
    monkeypatch.setenv("API_TOKEN", "canary-42-canary")
    ended.claimed()
    ended.records.write(1, Ending(code=1, cause="exception", error="ValueError: http://u:pw@h/?token=canary-42-canary"))
    ended.batch.rank_log(1, 0).write_text("canary-42-canary\n")
    ended.settle(rc=1)
    assert "canary-42-canary" not in json.dumps([ended.verdict, newest(ended.folder)]) + capsys.readouterr().out


def command(ended, rc):
    return [sys.executable, "-P", "-m", "launch.settle", str(ended.batch.root), "1", str(rc)]


def test_the_command_starts_fast_and_survives_signals(ended, tmp_path):
    """Its Slurm is a program that takes its time; the signals come meanwhile."""
    stopped(ended)
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(
        f'#!/bin/sh\necho $$ $PPID > {tmp_path}/asked\necho "$@" >> {tmp_path}/calls\n'
        "kill -TERM $PPID; kill -USR2 $PPID\n"
        'case "$*" in *show*) echo "JobState=RUNNING Reason=None Restarts=0 PreemptTime=None EndTime=1";; esac\n'
    )
    scontrol.chmod(0o755)
    environment = job_environment() | {"PATH": f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command(ended, 75), env=environment, capture_output=True, text=True)
    assert done.returncode == 75, done.stderr
    assert "vssl: probe: " in done.stdout
    assert (tmp_path / "calls").read_text().splitlines()[-1] == f"requeue {JOB}"
    assert ended.verdict["decision"] == "requeue"


def test_the_command_outside_of_a_job_and_with_an_unreadable_batch(ended, tmp_path):
    plain = {name: value for name, value in job_environment().items() if name != "VSSL_LAUNCHED"}
    assert subprocess.run(command(ended, 1), env=plain, capture_output=True).returncode == 2
    (tmp_path / "elements.json").write_text("{")  # damaged: for one that is missing it would wait
    unreadable = [*command(ended, 0)[:-3], str(tmp_path), "1", "0"]
    lost = subprocess.run(unreadable, env=job_environment(), capture_output=True, text=True)
    assert lost.returncode == 1, "0 is for what is done"
    assert "could not be settled" in lost.stderr


def test_settle_is_light():
    heavy = ("torch", "numpy", "mlflow", "rich", "typer", "asyncio")
    code = f"import launch.settle, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=job_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
