"""A plan's way into the queue, on the small Slurm in memory: what is sent, what is not, and what a person is told."""

import threading
from dataclasses import replace

import pytest

from launch.batches import create_batch, in_flight, open_batches, read_batch, record_job
from launch.executors.slurm import execute
from launch.plan import Resources
from launch.running import processes
from launch.running.claims import claim
from launch.running.elements import element
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import SchedulerRefusedError, SchedulerSilentError
from launch.store import Store
from tests.launch.conftest import planned
from tests.launch.fake_slurm import FakeSlurm
from tests.launch.slurm_records import finish
from vssl.artifacts import read_json, write_json
from vssl.config import ConfigError

PROFILE = Profile(name="test", sbatch_at_once=1)  # so that the ids of jobs have the order of the plan


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def slurm(clock):
    return FakeSlurm(clock, start=lambda job: None, kill=lambda job: None)


@pytest.fixture
def lanes(make_plan):
    """A plan of `number` lanes: single -> cross -> linear."""

    def make(number):
        stages = []
        for template in ("single", "cross", "linear"):
            for lane in range(number):
                parents = [one for one in stages if one.lane == lane][-1:]
                stage = planned(f"{template}.{lane}", parents, {"mem_gb": 1}, seed=lane)
                stages.append(replace(stage, template=template, element=template, lane=lane))
        return make_plan(*stages)

    return make


@pytest.fixture
def submit(store, slurm, capsys, tmp_path, monkeypatch):
    """The line; returns the exit code and what it said."""
    monkeypatch.setattr("launch.slurm.submission.snapshot", lambda store: tmp_path / "code")

    def run(plan, *only, profile=PROFILE, scheduler=slurm, store=store, **options):
        code = execute(plan, only or [one.name for one in plan], store, profile=profile, scheduler=scheduler, **options)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def work(slurm, store, plan, fail=()):
    """Let everything that may run do so, until the queue stands still."""
    while running := [job for job in slurm.jobs.values() if job.state == "RUNNING"]:
        for job in running:
            name = read_json(job.batch / "elements.json")["elements"][str(job.index)]["name"]
            if name not in fail:
                finish(store, plan, name)
            slurm.finish(job, 1 if name in fail else 0)
        slurm.clock.now += 2
        slurm.tick()


def make_busy(slurm):
    """No node is free any more."""
    nodes = slurm.nodes()
    slurm.hosts, slurm.nodes = [], lambda: nodes


def held(slurm):
    return [job.id for job in slurm.jobs.values() if job.held and not job.is_over]


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


def test_a_stage_that_another_executor_runs_is_refused(lanes, submit, store):
    plan = lanes(1)
    folder = store.stage(plan["single.0"].folder)
    folder.attempts.mkdir(parents=True)
    claim(folder, "local", {})
    with pytest.raises(ConfigError, match=r"single\.0 is running in process \d+ on .*, outside of Slurm's queue"):
        submit(plan)


def test_a_killed_job_that_has_left_the_queue_is_sent_again(lanes, submit, slurm, store):
    plan = lanes(1)
    folder = store.stage(plan["single.0"].folder)
    folder.attempts.mkdir(parents=True)
    gone = {**processes.identity(), "boot_id": "of another node"}
    write_json(folder.attempts / "1.json", {"token": 1, "nonce": "9_0.0", "process": gone, "started_at_ms": 0,
                                            "slurm": {"job": "9_0", "restart": 0}})  # fmt: skip
    folder.beat.touch()
    assert submit(plan)[0] == 0


def test_held_arrays_of_a_dead_launcher_are_given_up_and_sent_anew(lanes, submit, slurm, store):
    plan = lanes(2)
    orphan = create_batch(store, {0: element(plan["single.0"], plan, "p"), 1: element(plan["single.1"], plan, "p")}, {})
    (orphan / "script.sh").write_text(f"#SBATCH --job-name=vssl-{orphan.name}\n#SBATCH --array=0-1\n#SBATCH --requeue\n"
                                      "#SBATCH --kill-on-invalid-dep=yes\n")  # fmt: skip
    slurm.submit(orphan / "script.sh", orphan)  # and died before it wrote the id down
    intent = create_batch(store, {0: element(plan["cross.0"], plan, "p")}, {})
    submit(plan)
    assert read_batch(orphan).void
    assert read_batch(intent).void
    assert [job.id for job in slurm.history] == ["1_0", "1_1"]
    assert not held(slurm)
    assert len(slurm.queue()) == 6


def test_an_array_that_a_dead_launcher_released_is_adopted(lanes, submit, slurm, store):
    plan = lanes(2)
    submit(plan)
    for batch in open_batches(store):
        (batch.folder / "job.json").unlink()
    record_job(open_batches(store)[0].folder, "1")
    writes = slurm.writes
    assert submit(plan)[0] == 0
    assert slurm.writes == writes
    assert [(batch.job_id, batch.released) for batch in open_batches(store)] == [("1", True), ("2", True), ("3", True)]


def test_what_a_person_holds_stays_as_it_is(lanes, submit, slurm):
    plan = lanes(1)
    make_busy(slurm)
    submit(plan)
    for job in slurm.jobs.values():
        job.held = True
    writes = slurm.writes
    assert submit(plan)[0] == 0
    assert (slurm.writes, len(held(slurm))) == (writes, 3)


def test_jobs_of_another_store_are_left_alone(lanes, submit, slurm, store, tmp_path):
    plan, other = lanes(1), Store(tmp_path / "other", visibility_s=0)
    submit(plan, store=other)
    for job in slurm.jobs.values():
        job.held = True
    submit(plan)
    assert len(slurm.queue()) == 6
    assert held(slurm) == ["1_0", "2_0", "3_0"]


def test_a_job_that_can_never_start_is_taken_out(lanes, submit, slurm, store, monkeypatch):
    plan = lanes(1)
    make_busy(slurm)
    submit(plan)
    stuck = slurm.jobs[2, 0]
    reason = slurm._reason
    monkeypatch.setattr(slurm, "_reason", lambda job: "DependencyNeverSatisfied" if job is stuck else reason(job))
    assert submit(plan)[0] == 0
    assert [one.job for one in slurm.queue()] == ["1_0", "4_0", "5_0"], "and what waits for it is sent anew, too"


def test_two_launchers_at_once(lanes, submit, slurm, store, capsys):
    plan, codes = lanes(3), []

    def launch():
        codes.append(execute(plan, [one.name for one in plan], store, profile=PROFILE, scheduler=slurm))

    threads = [threading.Thread(target=launch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0, 0]
    assert len(slurm.queue()) == len(slurm.jobs) == 9
    assert capsys.readouterr().out.count("9 in the queue before") == 2


def test_a_thousand_stages_are_few_calls(lanes, submit, slurm):
    code, _ = submit(lanes(250))
    assert code == 0
    assert slurm.writes == 6
    assert len(slurm.queue()) == 750


def test_ctrl_c_between_two_arrays_leaves_nothing_behind(lanes, submit, slurm, store, monkeypatch):
    send = slurm.submit

    def interrupted(script, cwd):
        if slurm.jobs:
            raise KeyboardInterrupt
        return send(script, cwd)

    monkeypatch.setattr(slurm, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        submit(lanes(2))
    assert not slurm.queue()
    assert not open_batches(store)


def test_the_queue_of_another_cluster_knows_nothing_of_this_ones_batches(lanes, submit, slurm, store, clock):
    plan = lanes(1)
    submit(plan)
    folder = store.stage(plan["single.0"].folder)
    folder.attempts.mkdir(parents=True)
    there = {"host": "n1", "pid": 1, "boot_id": "another"}
    batch = next(one for one in open_batches(store) if one.stage(0) == plan["single.0"].folder)
    record = {"token": 1, "nonce": "x", "process": there, "started_at_ms": 0, "batch": batch.id}
    write_json(folder.attempts / "1.json", {**record, "slurm": {"job": "1_0", "restart": 0}})
    folder.beat.touch()
    other = FakeSlurm(clock, start=lambda job: None, kill=lambda job: None)
    other.config = lambda: {"ClusterName": "other"}
    with pytest.raises(ConfigError, match=r"single\.0 is running in process 1 on n1, outside of Slurm's queue"):
        submit(plan, scheduler=other)
    assert len(open_batches(store)) == 3
    assert submit(plan)[0] == 0
    assert len(slurm.queue()) == 3
