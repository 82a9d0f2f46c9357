"""Ranks of a Slurm job, started by hand with the variables that Slurm would give them."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from launch.job import main
from launch.provenance import versions
from launch.running import execution
from launch.running.claims import Claim, attempts, claim, newest
from launch.running.elements import read_element
from launch.running.execution import Execution
from launch.running.ranks import Launch
from launch.running.stopping import StopFlag
from tests.launch.conftest import planned
from tests.launch.slurm_batches import allocation, job_environment, make_batch
from tests.waiting import wait_until
from vssl.artifacts import read_json, write_json
from vssl.config import ConfigError
from vssl.run import read_journal

FIRST = planned("first", seed=1)


def test_an_attempt_names_its_job_and_leaves_all_its_records(make_job):
    job = make_job(FIRST)
    assert job.run()[0] == 0
    attempt = newest(job.folder())
    assert attempt["nonce"] == "12_1.0"
    assert attempt["batch"] == job.batch.root.name
    assert attempt["slurm"] == {"job": "12_1", "restart": 0, "hosts": "n1", "end_time_s": 99999999999.0}
    record = job.record()
    assert (record["code"], record["cause"], record["rank"], record["host"]) == (0, "done", 0, "n1")
    assert read_json(job.folder().environment / "1.json")["slurm"]["SLURM_ARRAY_JOB_ID"] == "12"


def test_a_later_start_goes_on_at_once(store, make_job):
    """Its predecessor left no outcome, and ran where this machine cannot look: no other job might supersede it yet."""
    job = make_job(FIRST)
    store.prepare_folder(FIRST.folder, "probe")
    facts = {"batch": job.batch.root.name, "slurm": {"job": "12_1", "restart": 0}}
    lost = claim(job.folder(), "12_1.0", {**facts, "code": "c", "versions": versions(), "inputs": {}})
    there = {**lost.record["process"], "boot_id": "another", "host": "n9"}
    write_json(lost.path, {**lost.record, "process": there})
    job.folder().beat.touch()
    code, out = job.run(restart=1)
    assert code == 0, out
    assert newest(job.folder())["slurm"]["restart"] == 1
    verdict = read_json(job.batch.verdict(1, 0))
    assert (verdict["cause"], verdict["decision"]) == ("node_failure", "requeue"), "nobody else could say it"
    code, out = job.run(restart=0)
    assert code == 0
    assert "is done already" in out


def test_a_start_that_is_left_over_writes_nothing(store, make_job):
    job = make_job(FIRST)
    store.prepare_folder(FIRST.folder, "probe")
    facts = {"batch": job.batch.root.name, "slurm": {"job": "12_1", "restart": 1}}
    claim(job.folder(), "12_1.1", facts).finish("saved", 75)
    code, out = job.run(restart=0)
    assert code == 75
    assert "belongs to a later start of this job" in out
    assert job.record()["cause"] == "elsewhere"
    assert len(attempts(job.folder())) == 1


def test_other_ranks_end_as_rank_0_does_where_there_is_nothing_to_do(make_job):
    make_job(FIRST).run()
    again = make_job(FIRST, ranks=2)
    follower = again.start(rank=1)
    assert again.run(rank=0)[0] == 0
    assert follower.wait(120) == 0, "it would wait a quarter of an hour for a claim"
    assert again.record(rank=1)["cause"] == "done"


def test_other_ranks_of_a_local_queue_do_so_too(store, make_job):
    job = make_job(FIRST)
    job.run()
    batch = make_batch(store, [FIRST])
    words = [sys.executable, "-P", "-m", "launch.job", str(batch), "1"]
    inherited = {name: value for name, value in job_environment().items() if not name.startswith("SLURM")}
    write_json(batch / "elements.json", {**read_json(batch / "elements.json"), "executor": "local", "slurm": None})
    numbers = {"WORLD_SIZE": "2", "VSSL_ATTEMPT": "n"}
    ranks = [
        subprocess.Popen(words, env=inherited | numbers | {"RANK": rank, "LOCAL_RANK": rank}) for rank in ("1", "0")
    ]
    job.started.extend(ranks)
    assert [rank.wait(120) for rank in ranks] == [0, 0]


def test_other_ranks_are_refused_with_rank_0(make_job):
    job = make_job(FIRST, planned("second", [FIRST], seed=2), ranks=2)
    follower = job.start(rank=1, index=2)
    code, out = job.run(rank=0, index=2)
    assert code == 78
    assert "run the parent first" in out
    assert follower.wait(120) == 78
    assert job.record(rank=1, index=2)["cause"] == "refused"
    assert "run the parent first" in job.record(rank=0, index=2)["error"]


def test_a_signal_before_the_claim_waits_for_rank_0(make_job):
    """A rank that left would make srun kill rank 0, and rank 0 would wait for a rank that never comes."""
    job = make_job(planned("slow", seed=4, steps=200, step_s=0.05), ranks=2)
    early = job.start(rank=1, PYTHONUNBUFFERED="1")
    wait_until(lambda: _takes_signals(early.pid))
    early.send_signal(signal.SIGUSR2)
    time.sleep(0.3)
    assert early.poll() is None
    leader = job.start(rank=0)
    assert leader.wait(120) == 75, "the stop is agreed on at the first step"
    assert early.wait(120) == 75
    assert newest(job.folder())["outcome"] == "saved"
    assert newest(job.folder())["stopped_by"] == "another rank"
    assert job.record(rank=1)["stopped_by"] == "SIGUSR2"


def _takes_signals(pid):
    with open(f"/proc/{pid}/status") as status:
        caught = next(line.split()[1] for line in status if line.startswith("SigCgt"))
    return bool(int(caught, 16) & 1 << (signal.SIGUSR2 - 1))


def test_ranks_stop_at_one_step_and_nobody_leaves_before_the_save(make_job):
    job = make_job(planned("slow", seed=4, steps=200, step_s=0.05, save_s=0.3), ranks=2)
    ranks = [job.start(rank=rank) for rank in range(2)]
    wait_until(lambda: len(read_journal(job.folder().journal)) > 1)
    ranks[1].send_signal(signal.SIGUSR2)
    assert [rank.wait(120) for rank in ranks] == [75, 75]
    saved = read_json(job.folder().checkpoints / "state.json")["step"]
    assert len(read_journal(job.folder().journal)) == saved
    assert job.record(rank=0)["at_ms"] >= newest(job.folder())["ended_at_ms"]
    assert job.record(rank=1)["at_ms"] >= newest(job.folder())["ended_at_ms"]


def test_a_stage_stops_by_itself_before_the_time_limit(make_job):
    job = make_job(planned("slow", seed=4, steps=2000, step_s=0.02), policy={"signal_delay_s": 10})
    code, _ = job.run(SLURM_JOB_END_TIME=str(int(time.time()) + 18), PATH="")
    assert code == 75
    record = job.record()
    assert (record["cause"], record["stopped_by"]) == ("time_limit", "time_limit")
    assert newest(job.folder())["stopped_by"] == "time_limit"
    assert read_json(job.folder().checkpoints / "state.json")["step"] > 0


def test_a_stop_during_the_guard_claims_nothing(store):
    stop = StopFlag()
    stop.set("SIGTERM")
    launch = Launch(nonce="12_1.0", slurm=allocation())
    batch = make_batch(store, [FIRST])
    element = read_element(batch, 1)[0]
    ending = Execution(element=element, store=store, launch=launch, stop=stop).run()
    assert (ending.code, ending.cause, ending.stopped_by) == (75, "signal", "SIGTERM")
    assert attempts(store.stage(FIRST.folder)) == []


def test_a_batch_that_the_launcher_has_just_written_elsewhere_comes_into_sight(store):
    batch = make_batch(store, [FIRST])
    record = batch / "elements.json"
    record.rename(batch / "elements.aside")
    with pytest.raises(ConfigError, match="is no batch folder"):
        read_element(batch, 1)
    appearing = threading.Timer(0.3, (batch / "elements.aside").rename, [record])
    appearing.start()
    assert read_element(batch, 1, 30.0)[0].name == "first"
    appearing.join()


def test_a_hung_stage_ends_itself_with_the_stacks(make_job):
    job = make_job(planned("hung", seed=5, steps=9, hang_at=2), policy={"hang_min": 0.02})
    code, out = job.run()
    assert code == 1
    assert "no progress for" in out
    assert "_misfortune" in out, "where the thread was"
    assert job.record()["cause"] == "hung"
    assert newest(job.folder())["outcome"] == "failed"


def test_a_killed_rank_leaves_no_record_and_the_other_one_says_that_it_lost_it(make_job):
    job = make_job(planned("killed", seed=5, steps=9, kill_at=2, rank=1), ranks=2)
    ranks = [job.start(rank=rank) for rank in range(2)]
    assert ranks[1].wait(120) == -signal.SIGKILL
    assert ranks[0].wait(120) == 1
    assert job.record(rank=1) is None
    assert job.record(rank=0)["lost_rank"] is True
    again = [job.start(rank=rank, restart=1) for rank in range(2)]
    assert [rank.wait(120) for rank in again] == [0, 0], "it is killed once only"


def test_an_exception_is_recorded_by_its_rank(make_job):
    job = make_job(planned("fails", seed=5, steps=9, fail_at=2, rank=1), ranks=2)
    ranks = [job.start(rank=rank) for rank in range(2)]
    assert [rank.wait(120) for rank in ranks] == [1, 1]
    record = job.record(rank=1)
    assert (record["cause"], record["lost_rank"]) == ("exception", False)
    assert record["error"] == "RuntimeError: the probe fails at step 2, as its config asks"


def test_another_number_of_ranks_is_bad_input(make_job):
    job = make_job(FIRST, ranks=2)
    code, out = job.run(SLURM_NTASKS="1")
    assert code == 2
    assert "is made for 2 ranks, but 1 were started on n1" in out
    assert job.record()["cause"] == "bad_input"


def test_other_code_is_refused(make_job):
    job = make_job(FIRST)
    record = read_json(job.batch.elements)
    write_json(job.batch.elements, {**record, "code": "0" * 64, "slurm": {**record["slurm"], "snapshot": "/snap"}})
    code, out = job.run()
    assert code == 78
    assert "submit again" in out
    assert job.record()["cause"] == "refused"


def test_a_part_of_slurms_variables_is_bad_input(make_job):
    assert make_job(FIRST).run(SLURM_LOCALID="")[0] == 2


def test_a_record_that_cannot_be_written_costs_nothing_else(make_job, monkeypatch, capsys):
    job = make_job(FIRST)
    (job.batch.root / "ranks").rmdir()
    (job.batch.root / "ranks").write_text("a file where a folder should be")
    for name, value in job_environment().items():
        monkeypatch.setenv(name, value)
    assert main([str(job.batch.root)]) == 0
    assert "could not be recorded" in capsys.readouterr().err


def test_a_superseded_attempt_ends_as_one_that_runs_elsewhere(store, monkeypatch):
    monkeypatch.setattr(Claim, "owns", lambda self: False)
    element = read_element(make_batch(store, [FIRST]), 1)[0]
    ending = Execution(element=element, store=store, launch=Launch(nonce="n"), stop=StopFlag()).run()
    assert (ending.code, ending.cause) == (75, "elsewhere")


def test_a_follower_gives_up_in_the_end(store, monkeypatch):
    monkeypatch.setattr(execution, "CLAIM_WAIT_S", 0.1)
    element = read_element(make_batch(store, [FIRST]), 1)[0]
    with pytest.raises(execution.ElsewhereError, match="rank 1 saw no claim"):
        Execution(element=element, store=store, launch=Launch(rank=1, ranks=2, nonce="n"), stop=StopFlag()).run()
