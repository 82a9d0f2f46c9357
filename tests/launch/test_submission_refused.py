"""What the small Slurm, or the launcher itself, refuses: nothing is left behind."""

import threading
from dataclasses import replace

import pytest

from launch.batches import in_flight, open_batches, read_batch
from launch.plan import Resources
from launch.running.claims import claim
from launch.slurm.scheduler import SchedulerRefusedError
from launch.store import Store
from tests.launch.conftest import planned
from tests.launch.submissions import PROFILE, held
from vssl.config import ConfigError


@pytest.fixture
def apart(make_plan):
    """A plan of `number` stages that neither wait for one another nor ask for the same, and one below each."""

    def make(number):
        above = [planned(f"a{at}", resources={"mem_gb": 1 + at}, seed=at) for at in range(number)]
        return make_plan(*above, *(planned(f"b{at}", [one], {"mem_gb": 1 + at}) for at, one in enumerate(above)))

    return make


SIDE_BY_SIDE = replace(PROFILE, sbatch_at_once=3)


def test_arrays_that_do_not_wait_for_one_another_are_sent_side_by_side(apart, submit, slurm, store, monkeypatch):
    send, meeting = slurm.submit, threading.Barrier(3)

    def together(script, cwd):
        meeting.wait(60)  # passed only if three are at it
        return send(script, cwd)

    monkeypatch.setattr(slurm, "submit", together)
    code, said = submit(apart(6), profile=SIDE_BY_SIDE)
    assert code == 0
    assert [line.partition(":")[0] for line in said.splitlines()[:12]] == [f"{x}{at}" for x in "ab" for at in range(6)]
    assert len(slurm.queue()) == 12
    assert not held(slurm)
    edges = {in_flight(store, slurm.queue())[one.folder].entry.dependency for one in apart(6) if one.name[0] == "b"}
    assert len(edges) == 6, "each waits for its own parent"
    assert all(batch.released for batch in open_batches(store))


def test_a_refusal_among_others_leaves_nothing_behind(apart, submit, slurm, store, monkeypatch):
    send = slurm.submit

    def refuse_the_third(script, cwd):
        if "--mem=3GB" in script.read_text():
            raise SchedulerRefusedError("sbatch", "sbatch: error: Invalid qos specification")
        return send(script, cwd)

    monkeypatch.setattr(slurm, "submit", refuse_the_third)
    with pytest.raises(ConfigError, match=r"Slurm refused a2: .*Invalid qos.*nothing of this line was queued"):
        submit(apart(6), profile=SIDE_BY_SIDE)
    assert not slurm.queue()
    assert not open_batches(store)


def test_a_full_queue_among_others_takes_what_fits(apart, submit, slurm, store, monkeypatch):
    slurm.max_submit = 4
    monkeypatch.setattr(slurm, "submit_limit", lambda account, qos: None)  # only sbatch knows
    code, said = submit(apart(6), profile=SIDE_BY_SIDE)
    assert code == 75
    assert "4 of 12 stages queued now" in said
    assert len(slurm.queue()) == 4
    assert not held(slurm)
    assert all(one.void or one.released for one in map(read_batch, store.batches.iterdir()))


def test_a_refusal_leaves_nothing_behind(lanes, submit, slurm, store, monkeypatch):
    send, sent = slurm.submit, []

    def refuse_the_second(script, cwd):
        if sent:
            raise SchedulerRefusedError(
                "sbatch", "sbatch: error: Batch job submission failed: Invalid qos specification"
            )
        sent.append(script)
        return send(script, cwd)

    monkeypatch.setattr(slurm, "submit", refuse_the_second)
    with pytest.raises(
        ConfigError, match=r"Slurm refused cross: .*Invalid qos.*nothing of this line was queued.*profile test"
    ):
        submit(lanes(2))
    assert not slurm.queue()
    assert not open_batches(store)


def test_a_refused_release_leaves_nothing_behind(lanes, submit, slurm, store, monkeypatch):
    def refuse(ids):
        raise SchedulerRefusedError("scontrol release", "Access/permission denied")

    monkeypatch.setattr(slurm, "release", refuse)
    with pytest.raises(ConfigError, match=r"Slurm refused: .*permission denied"):
        submit(lanes(2))
    assert not slurm.queue()
    assert not open_batches(store)


def test_a_refused_single_job_in_an_empty_queue_is_no_full_queue(lanes, submit, slurm, monkeypatch):
    def refuse(script, cwd):
        raise SchedulerRefusedError("sbatch", "Job violates accounting/QOS policy (job submit limit, user's size ...)")

    monkeypatch.setattr(slurm, "submit", refuse)
    with pytest.raises(ConfigError, match="Slurm refused single"):
        submit(lanes(4))


def test_what_does_not_fit_a_partition_is_refused_before_anything_is_written(make_plan, stage, submit, slurm, store):
    plan = make_plan(replace(stage("wide"), resources=Resources(cpus_per_task=99)))
    with pytest.raises(ConfigError, match="wide asks for 99 cores"):
        submit(plan)
    assert not store.root.exists()


def test_a_root_that_no_script_can_name_is_refused_before_anything_is_written(lanes, submit, slurm, tmp_path):
    with pytest.raises(ConfigError, match=r"holds a colon.*choose another store with root=FOLDER"):
        submit(lanes(1), store=Store(tmp_path / "12:30", visibility_s=0))
    assert not (tmp_path / "12:30").exists()
    assert (slurm.reads, slurm.writes) == (0, 0)


def test_a_parent_that_nobody_brings_is_refused(lanes, submit, slurm):
    with pytest.raises(ConfigError, match=r"linear\.0 needs cross\.0, which is neither finished, nor queued, nor sel"):
        submit(lanes(1), "single.0", "linear.0")
    assert not slurm.queue()


def test_an_unknown_name_is_refused(lanes, submit):
    with pytest.raises(ConfigError, match=r"did you mean `linear\.0`"):
        submit(lanes(1), "linaer.0")


def test_a_stage_that_another_executor_runs_is_refused(lanes, submit, store):
    plan = lanes(1)
    folder = store.stage(plan["single.0"].folder)
    folder.attempts.mkdir(parents=True)
    claim(folder, "local", {})
    with pytest.raises(ConfigError, match=r"single\.0 is running in process \d+ on .*, outside of Slurm's queue"):
        submit(plan)
