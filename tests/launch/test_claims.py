import json
import os
import subprocess
import sys
import time

import pytest

from launch.running import claims, processes
from launch.running.claims import Claim, ElsewhereError, attempt_path, claim, is_live, newest, server_now_s
from vssl.artifacts import StageFolder, read_json, write_json
from vssl.run import Run, StageError


@pytest.fixture
def folder(tmp_path):
    folder = StageFolder(tmp_path / "probe-1")
    folder.attempts.mkdir(parents=True)
    return folder


def test_two_claimants_one_owner(folder):
    first = claim(folder, "a", {})
    assert first.owns()
    with pytest.raises(ElsewhereError, match=f"process {os.getpid()}"):
        claim(folder, "b", {})


def test_an_ended_attempt_may_be_followed(folder):
    first = claim(folder, "a", {})
    first.finish("saved", 75)
    second = claim(folder, "b", {})
    assert (first.token, second.token) == (1, 2)
    assert second.owns()
    assert not first.owns()


def test_a_superseded_attempt_writes_no_more(folder):
    first = claim(folder, "a", {})
    first.finish("saved", 75)
    claim(folder, "b", {})
    first.finish("failed", 1, "too late")
    assert read_json(first.path)["outcome"] == "saved"
    with pytest.raises(StageError, match="a newer attempt has taken over"):
        Run(folder, owns=first.owns).check_ownership()


def test_a_folder_that_was_set_aside_and_made_anew_is_not_owned(folder, tmp_path):
    first = claim(folder, "a", {})
    folder.root.rename(tmp_path / "probe-1~1")
    assert not first.owns()
    folder.attempts.mkdir(parents=True)
    claim(folder, "b", {})
    assert not first.owns(), "the same number in the new folder belongs to another launch"


def test_a_dead_process_is_taken_over(folder):
    child = subprocess.run(
        [sys.executable, "-c", "from launch.running.processes import *; import json; print(json.dumps(identity()))"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    record = {"token": 1, "nonce": "dead", "process": json.loads(child.stdout), "started_at_ms": 0}
    write_json(attempt_path(folder, 1), record)
    folder.beat.touch()
    assert claim(folder, "b", {}).token == 2


def test_a_reused_process_id_is_not_the_old_process():
    me = processes.identity()
    assert processes.is_alive(me) is True
    assert processes.is_alive({**me, "pid_started": me["pid_started"] - 1}) is False
    assert processes.is_alive({**me, "boot_id": "another boot"}) is None
    assert processes.is_alive({**me, "pid_namespace": "pid:[1]"}) is None


def test_elsewhere_a_fresh_beat_means_alive_and_a_stale_one_dead(folder):
    there = {**processes.identity(), "host": "n2", "boot_id": "another"}
    record = {"token": 1, "nonce": "there", "process": there, "started_at_ms": 0}
    write_json(attempt_path(folder, 1), record)
    now = server_now_s(folder.attempts)
    assert is_live(record, folder, now), "before its first beat, the record itself is the sign of life"
    folder.beat.touch()
    with pytest.raises(ElsewhereError):
        claim(folder, "b", {})
    os.utime(folder.beat, (now - 400, now - 400))
    assert not is_live(record, folder, now)
    assert claim(folder, "b", {}).token == 2


def test_the_clock_is_the_file_servers(folder):
    assert abs(server_now_s(folder.attempts) - time.time()) < 5
    assert [path.name for path in folder.attempts.iterdir()] == [], "asking for the time leaves nothing behind"


def test_whoever_links_the_number_first_wins(folder, monkeypatch):
    """Both see no attempt; the other one is faster between this one's look and its creation."""
    create = claims.create_json
    raced: list[Claim] = []

    def slower(path, value):
        if not raced:
            monkeypatch.setattr(claims, "create_json", create)
            raced.append(claim(folder, "fast", {}))
        return create(path, value)

    monkeypatch.setattr(claims, "create_json", slower)
    with pytest.raises(ElsewhereError):
        claim(folder, "slow", {})
    assert newest(folder)["nonce"] == "fast"


def facts(restart, job="12_1", batch="b"):
    return {"batch": batch, "slurm": {"job": job, "restart": restart}}


def test_a_later_start_of_a_slurm_job_supersedes_at_once(folder):
    """No staleness to wait for: Slurm starts a job again only when it counts the last start as over."""
    zombie = claim(folder, "12_1.0", facts(0))
    later = claim(folder, "12_1.1", facts(1))
    assert (later.token, later.owns(), zombie.owns()) == (2, True, False)


def test_an_earlier_start_that_wakes_up_again_claims_nothing(folder):
    claim(folder, "12_1.1", facts(1)).finish("saved", 75)
    with pytest.raises(ElsewhereError, match="a later start of this job"):
        claim(folder, "12_1.0", facts(0))


def test_the_same_start_does_not_claim_twice(folder):
    claim(folder, "12_1.1", facts(1))
    with pytest.raises(ElsewhereError, match="is running elsewhere"):
        claim(folder, "12_1.1", facts(1))


@pytest.mark.parametrize("other", [facts(0, job="13_1"), facts(0, batch="another"), {}])
def test_another_job_waits_as_ever(folder, other):
    """Slurm gives ids again after its state was lost, batches are random."""
    claim(folder, "first", other)
    with pytest.raises(ElsewhereError, match="is running elsewhere"):
        claim(folder, "12_1.5", facts(5))


def test_an_attempt_is_closed_once(folder):
    mine = claim(folder, "12_1.0", facts(0))
    claims.close(folder, claims.attempt_of(folder, "12_1.0"), 75, "rank 1 on n2: Killed")
    assert {"outcome": "failed", "exit_code": 75, "error": "rank 1 on n2: Killed"}.items() <= read_json(
        mine.path
    ).items()
    claims.close(folder, claims.attempt_of(folder, "12_1.0"), 1, "again")
    assert read_json(mine.path)["exit_code"] == 75
    assert claims.attempt_of(folder, "12_1.7") is None
