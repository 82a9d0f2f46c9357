"""Launches that ended without a verdict, and the next one that writes it."""

import os
import time

import pytest

from launch.running.batch_folder import BatchFolder
from launch.running.causes import Policy
from launch.running.claims import claim
from launch.slurm.restarts import BudgetSpentError, account_for_lost_launches, check_budget, verdicts
from launch.slurm.scheduler import Scheduler
from tests.launch.conftest import planned
from tests.launch.slurm_batches import ScriptedSlurm, allocation, make_batch
from vssl.artifacts import write_json

STAGE = planned("probe", seed=7)


@pytest.fixture
def batch(store):
    return BatchFolder(make_batch(store, [STAGE]))


def account(store, batch, restart, slurm=None):
    folder = store.stage(STAGE.folder)
    account_for_lost_launches(batch, 1, 1, allocation(restart=restart), folder, slurm or ScriptedSlurm())
    return verdicts(batch, 1, restart)


def line(why):
    return f"slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO {why} ***\n"


def test_a_first_start_has_nothing_to_account_for(store, batch):
    assert account(store, batch, 0) == []


@pytest.mark.parametrize(("why", "cause"), [("PREEMPTION", "preempted"), ("NODE FAILURE", "node_failure")])
def test_what_slurm_left_in_the_log(store, batch, why, cause):
    batch.script_log(1).write_text(line(why))
    (verdict,) = account(store, batch, 1)
    assert (verdict["cause"], verdict["decision"], verdict["by_slurm"]) == (cause, "requeue", True)


def test_what_accounting_knows(store, batch):
    slurm = ScriptedSlurm()
    slurm.rows = [{"JobID": "12_1", "State": state} for state in ("NODE_FAIL", "PREEMPTED", "RUNNING")]
    slurm.rows.insert(0, {"JobID": "12_2", "State": "COMPLETED"})
    assert [one["cause"] for one in account(store, batch, 2, slurm)] == ["node_failure", "preempted"]


def test_without_a_word_the_node_is_gone(store, batch):
    """What Slurm ends by itself leaves a line in the log, unless there is nobody left to write it."""
    (verdict,) = account(store, batch, 1)
    assert verdict["cause"] == "node_failure"


def test_a_node_without_slurms_commands_is_none_the_wiser(store, batch, monkeypatch):
    monkeypatch.setenv("PATH", "")
    (verdict,) = account(store, batch, 1, Scheduler())
    assert verdict["cause"] == "node_failure"


def test_a_verdict_that_is_there_stays(store, batch):
    write_json(batch.verdict(1, 0), {"cause": "hung", "decision": "requeue"})
    assert [one["cause"] for one in account(store, batch, 1)] == ["hung"]


def test_each_launch_counts_once(store, batch):
    batch.script_log(1).write_text(line("PREEMPTION"))
    account(store, batch, 1)
    batch.script_log(1).write_text(line("PREEMPTION") + "more\n")
    assert [one["cause"] for one in account(store, batch, 2)] == ["preempted", "node_failure"]
    assert len(account(store, batch, 2)) == 2


def test_settles_own_requeue_is_no_persons(store, batch):
    """Slurm writes the same line for both, the former after the verdict."""
    own = {"cause": "signal", "decision": "requeue", "log_bytes": {"1.log": 0}}
    write_json(batch.verdict(1, 0), own)
    batch.script_log(1).write_text(line("JOB REQUEUE"))
    assert [one["cause"] for one in account(store, batch, 2)] == ["signal", "node_failure"]
    batch.verdict(1, 1).unlink()
    batch.script_log(1).write_text(line("JOB REQUEUE") + line("JOB REQUEUE"))
    assert [one["cause"] for one in account(store, batch, 2)] == ["signal", "signal"]


def test_it_ended_when_it_was_last_seen(store, batch):
    """Otherwise the time in the queue would count as used."""
    folder = store.prepare_folder(STAGE.folder, "probe")
    claim(folder, allocation().nonce, {"batch": batch.root.name, "slurm": allocation().facts()})
    folder.beat.touch()
    then = time.time() - 1000
    os.utime(folder.beat, (then, then))
    (verdict,) = account(store, batch, 1)
    assert verdict["at_ms"] == pytest.approx(1000 * then, abs=10)


def test_slurms_own_restarts_have_a_budget_too(store, batch):
    few = Policy(requeue={"node_failure": 2})
    for restart in (1, 2):
        account(store, batch, restart)
        check_budget(batch, 1, restart, few)
    account(store, batch, 3)
    with pytest.raises(BudgetSpentError, match="again 3 times after node_failure") as said:
        check_budget(batch, 1, 3, few)
    assert said.value.cause == "node_failure"
    check_budget(batch, 1, 3, Policy())
    write_json(batch.verdict(1, 3), {"cause": "signal", "decision": "requeue"})
    check_budget(batch, 1, 4, few)
