"""`force`: what is done again, what goes with it, and when it has to wait."""

import pytest

from tests.launch.slurm_records import finish
from tests.launch.submissions import make_busy
from vssl.config import ConfigError


def test_force_redoes_a_stage_and_sends_what_stands_on_it(lanes, submit, slurm, store):
    plan = lanes(2)
    for stage in plan:
        finish(store, plan, stage.name)
    code, said = submit(plan, force={"cross.1"})
    assert code == 0
    assert f"cross.1: redone as asked; the old folder is now {plan['cross.1'].folder}~1" in said
    assert "2 of 2 stages queued now, 4 done" in said
    assert store.stage(f"{plan['cross.1'].folder}~1").done.exists()


def test_force_is_refused_while_the_stage_is_queued(lanes, submit, slurm):
    submit(lanes(1))
    with pytest.raises(ConfigError, match=r"single\.0 is running as 1_0; `vssl cancel` it before force=single\.0"):
        submit(lanes(1), force={"single.0"})


def test_force_takes_queued_children_out_and_sends_them_anew(lanes, submit, slurm, store):
    plan = lanes(1)
    finish(store, plan, "single.0")
    make_busy(slurm)
    submit(plan)
    assert [one.job for one in slurm.queue()] == ["1_0", "2_0"]
    code, _ = submit(plan, force={"single.0"})
    assert code == 0
    assert [(one.job, one.dependency) for one in slurm.queue()] == [
        ("3_0", ""), ("4_0", "afterok:3_0(unfulfilled)"), ("5_0", "afterok:4_0(unfulfilled)"),
    ]  # fmt: skip


def test_force_is_refused_while_a_child_is_queued_that_is_not_selected(lanes, submit, slurm, store):
    plan = lanes(1)
    finish(store, plan, "single.0")
    make_busy(slurm)
    submit(plan)
    with pytest.raises(ConfigError, match=r"cross\.0 is in Slurm's queue; .*force=single\.0"):
        submit(plan, "single.0", force={"single.0"})
