"""A plan's way into the queue, on the small Slurm in memory: what is sent, what is not, and what a person is told."""

from dataclasses import replace

import pytest

from launch.batches import in_flight, open_batches, read_batch
from launch.slurm.scheduler import SchedulerSilentError
from tests.launch.slurm_records import finish
from tests.launch.submissions import PROFILE, held, work


def test_lanes_are_arrays_chained_by_index(lanes, submit, slurm, store):
    plan = lanes(5)
    code, said = submit(plan)
    assert code == 0
    assert said.splitlines()[:3] == [
        "single: job 1 of 5 elements", "cross: job 2 of 5 elements, after 1", "linear: job 3 of 5 elements, after 2",
    ]  # fmt: skip
    assert "15 of 15 stages queued now; `vssl watch probes-" in said
    assert [one.dependency for one in slurm.queue()[5:10]] == ["aftercorr:1_*(unfulfilled)"] * 5
    assert slurm.writes == 6, "an sbatch and a release for each array"
    assert not held(slurm)
    assert {one.released for one in open_batches(store)} == {True}
    assert (store.pipeline(plan) / "plan.json").exists()


def test_the_same_line_again_finds_everything_queued(lanes, submit, slurm):
    plan = lanes(2)
    submit(plan)
    writes = slurm.writes
    code, said = submit(plan)
    assert (code, slurm.writes) == (0, writes)
    assert "0 of 6 stages queued now, 6 in the queue before" in said


def test_a_finished_plan_asks_nothing(lanes, submit, slurm, store):
    plan = lanes(2)
    for stage in plan:
        finish(store, plan, stage.name)
    code, said = submit(plan)
    assert code == 0
    assert "all 6 stages are done" in said
    assert (slurm.reads, slurm.writes) == (0, 0)


def test_finished_parents_are_dropped_and_queued_ones_are_told(lanes, submit, slurm, store):
    plan = lanes(3)
    submit(plan, "single.1", "single.2")
    finish(store, plan, "single.0")
    submit(plan, *(f"cross.{lane}" for lane in range(3)))
    edges = {one.job: one.dependency for one in slurm.queue() if one.array not in ("1",)}
    assert sorted(edges.values()) == ["", "aftercorr:1_*(unfulfilled)", "aftercorr:1_*(unfulfilled)"]


def test_a_failed_stage_and_what_hangs_below_it_are_sent_again(lanes, submit, slurm, store):
    plan = lanes(4)
    submit(plan)
    work(slurm, store, plan, fail={"single.2"})
    assert not slurm.queue()
    assert {job.id for job in slurm.history if job.state == "CANCELLED"} == {"2_2", "3_2"}
    writes = slurm.writes
    code, said = submit(plan)
    assert code == 0
    assert "3 of 3 stages queued now, 9 done" in said
    assert slurm.writes - writes == 6
    assert {one.index for one in slurm.queue()} == {2}


def test_a_batch_that_has_left_the_queue_is_closed(lanes, submit, slurm, store):
    plan = lanes(1)
    submit(plan)
    work(slurm, store, plan)
    assert len(open_batches(store)) == 3
    submit(lanes(2))
    assert len([batch for batch in store.batches.iterdir() if read_batch(batch).ended]) == 3


def test_a_stage_that_is_queued_by_another_pipeline_is_waited_for(lanes, submit, slurm):
    submit(lanes(1))
    code, said = submit(lanes(2))
    assert code == 0
    assert "3 of 6 stages queued now, 3 in the queue before" in said
    assert len(slurm.queue()) == 6


def test_the_queue_takes_a_prefix(lanes, submit, slurm, store):
    plan = lanes(10)
    slurm.max_submit = 12
    code, said = submit(plan)
    assert code == 75
    assert "12 of 30 stages queued now" in said
    assert "the same line again, or --follow, sends the rest" in said
    assert len(slurm.queue()) == 12
    rounds = 0
    while code == 75:
        work(slurm, store, plan)
        code, _ = submit(plan)
        rounds += 1
        assert rounds < 5
    work(slurm, store, plan)
    assert len(slurm.history) == 30
    assert submit(plan) == (0, submit(plan)[1])


def test_the_profiles_limit_counts_all_jobs_of_the_user(lanes, submit, slurm):
    submit(lanes(1))
    profile = replace(PROFILE, max_submit_jobs=5)
    assert submit(lanes(4), profile=profile)[0] == 75
    assert len(slurm.queue()) == 5
    code, said = submit(lanes(4), profile=profile)
    assert (code, len(slurm.queue())) == (75, 5)
    assert "0 of 12 stages queued now, 5 in the queue before" in said


@pytest.mark.parametrize("room", [1, 2, 7, 8, 13])
def test_a_limit_that_nobody_could_read_is_found_by_halves(lanes, submit, slurm, store, room, monkeypatch):
    slurm.max_submit = room
    monkeypatch.setattr(slurm, "submit_limit", lambda account, qos: None)
    plan = lanes(8)
    code, said = submit(plan)
    assert code == 75
    assert " of 24 stages queued now" in said
    sent = len(slurm.queue())
    assert room / 2 <= sent <= room
    assert not held(slurm)
    assert all(one.void or one.released for one in map(read_batch, store.batches.iterdir()))


def test_a_follower_sends_everything(lanes, submit, slurm, store, monkeypatch):
    plan = lanes(10)
    slurm.max_submit = 8
    monkeypatch.setattr("launch.executors.slurm.time.sleep", lambda seconds: work(slurm, store, plan))
    code, said = submit(plan, follow=True)
    assert code == 0
    work(slurm, store, plan)
    assert sorted(job.state for job in slurm.history) == ["COMPLETED"] * 30
    assert "22 are still to be sent" in said


def test_a_follower_leaves_out_what_has_lost_its_parent(lanes, submit, slurm, store, monkeypatch):
    plan = lanes(4)
    slurm.max_submit = 4
    monkeypatch.setattr("launch.executors.slurm.time.sleep", lambda seconds: work(slurm, store, plan, {"single.1"}))
    code, said = submit(plan, follow=True)
    assert code == 1
    assert "cross.1 is not sent: single.1 has failed" in said
    assert "linear.1 is not sent: single.1 has failed" in said
    assert sum(job.name == slurm.history[0].name for job in slurm.history) == 4, "a failed stage is not tried again"
    work(slurm, store, plan)
    assert len(store.reusable_stages(plan)) == 9


def test_a_follower_is_interrupted_without_harm(lanes, submit, slurm, store, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("launch.executors.slurm.time.sleep", interrupt)
    slurm.max_submit = 4
    code, said = submit(lanes(3), follow=True)
    assert code == 75
    assert "the same line again sends the rest" in said
    assert not held(slurm)


def test_a_silent_controller_is_try_again(lanes, submit, slurm, store, monkeypatch):
    plan = lanes(2)

    def silent(*words):
        raise SchedulerSilentError("sbatch: Unable to contact slurm controller")

    for name in ("partitions", "queue", "submit", "release"):
        with monkeypatch.context() as patch:
            patch.setattr(slurm, name, silent)
            code, said = submit(plan)
            assert code == 75, name
            assert "Unable to contact slurm controller" in said
            assert "the same line again goes on" in said
    assert len(held(slurm)) == 6, "whether a release that was not answered has worked, nobody knows"
    assert submit(plan)[0] == 0
    assert not held(slurm)
    assert sorted(one.job for one in slurm.queue()) == sorted(
        one.place[0] + f"_{one.place[1]}" for one in in_flight(store, slurm.queue()).values()
    )
    assert len(slurm.queue()) == 6


def test_a_thousand_stages_are_few_calls(lanes, submit, slurm):
    code, _ = submit(lanes(250))
    assert code == 0
    assert slurm.writes == 6
    assert len(slurm.queue()) == 750
