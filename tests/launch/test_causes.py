"""What follows from a cause: going on within a budget, or an end with the right code."""

import pytest

from launch.running.causes import BUDGETS, CAUSES, Finding, Policy, decide
from vssl.config import ConfigError, build


def verdict(cause, decision="requeue", progress="0"):
    return {"cause": cause, "decision": decision, "progress": progress}


def decided(finding, *earlier, policy=None, progress="now"):
    one = decide(finding, policy or Policy(), earlier, progress)
    return one.decision, one.exit_code


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("done", ("end", 0)),
        ("preempted", ("requeue", 75)),
        ("time_limit", ("requeue", 75)),
        ("signal", ("requeue", 75)),
        ("node_failure", ("requeue", 75)),
        ("killed", ("requeue", 75)),
        ("hung", ("requeue", 75)),
        ("elsewhere", ("requeue", 75)),
        ("out_of_memory", ("end", 1)),
        ("exception", ("end", 1)),
        ("no_start", ("end", 1)),
        ("bad_input", ("end", 2)),
        ("refused", ("end", 78)),
    ],
)
def test_the_first_time(cause, expected):
    assert decided(Finding(cause)) == expected


def test_every_cause_has_its_case():
    assert set(BUDGETS) | {"done", "exception", "no_start", "bad_input", "refused"} == set(CAUSES)
    assert [cause for cause in CAUSES if decide(Finding(cause), Policy(), (), "").exit_code == 0] == ["done"]


@pytest.mark.parametrize(("cause", "budget"), [("killed", 2), ("hung", 1), ("node_failure", 10), ("elsewhere", 30)])
def test_a_budget_is_used_up(cause, budget):
    before = [verdict(cause)] * budget
    assert decided(Finding(cause), *before[:-1]) == ("requeue", 75)
    assert decided(Finding(cause), *before) == ("end", 75)
    assert f"requeued {budget} times" in decide(Finding(cause), Policy(), before, "").error
    others = [verdict("preempted"), verdict(cause, decision="end")]
    assert decided(Finding(cause), *before[:-1], *others) == ("requeue", 75), "only its own requeues count"


def test_a_profile_changes_budgets():
    generous = Policy(requeue={"out_of_memory": 1, "killed": 0})
    assert decide(Finding("out_of_memory"), generous, (), "").decision == "requeue"
    assert decided(Finding("out_of_memory"), verdict("out_of_memory"), policy=generous) == ("end", 1)
    assert decided(Finding("killed"), policy=generous) == ("end", 75)
    assert decided(Finding("hung"), policy=generous) == ("requeue", 75)


def test_what_is_cancelled_ends_whatever_the_budget():
    assert decided(Finding("signal", "cancelled", final=True)) == ("end", 75)


def test_what_slurm_requeued_costs_no_requeue():
    one = decide(Finding("preempted", by_slurm=True), Policy(requeue={"preempted": 0}), (), "")
    assert (one.decision, one.by_slurm) == ("requeue", True)


@pytest.mark.parametrize("cause", ["preempted", "time_limit", "signal"])
def test_stops_without_a_new_checkpoint_come_to_an_end(cause):
    idle = [verdict("time_limit", progress="5"), verdict("preempted", progress="5")]
    assert decided(Finding(cause), *idle, progress="5") == ("end", 1)
    assert "stopped 3 times in a row" in decide(Finding(cause), Policy(), idle, "5").error
    assert decided(Finding(cause), *idle, progress="6") == ("requeue", 75), "it has saved since"
    assert decided(Finding(cause), idle[0], progress="5") == ("requeue", 75)
    mixed = [idle[0], verdict("node_failure", progress="5")]
    assert decided(Finding(cause), *mixed, progress="5") == ("requeue", 75), "a node's failure is no stop"


def test_a_stage_that_makes_progress_may_be_preempted_for_months():
    history = [verdict("preempted", progress=str(number)) for number in range(1000)]
    assert decided(Finding("preempted"), *history, progress="1000") == ("requeue", 75)


def test_a_policy_is_checked():
    assert build(Policy, {"hang_min": 5, "requeue": {"killed": 7}}).budget("killed") == 7
    for wrong, said in (
        ({"requeue": {"exception": 1}}, "after 'exception' nothing is requeued"),
        ({"requeue": {"killed": -1}}, r"requeue.killed=-1"),
        ({"hang_min": 0}, "hang_min"),
        ({"hang_minutes": 5}, "did you mean `hang_min`"),
    ):
        with pytest.raises(ConfigError, match=said):
            build(Policy, wrong)
