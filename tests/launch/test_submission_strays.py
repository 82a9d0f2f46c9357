"""Jobs that earlier or other launchers left in the queue, and launchers that end in the middle."""

import threading

import pytest

from launch.batches import create_batch, open_batches, read_batch, record_job
from launch.executors.slurm import execute
from launch.running import processes
from launch.running.elements import element
from launch.store import Store
from tests.launch.fake_slurm import FakeSlurm
from tests.launch.submissions import PROFILE, held, make_busy
from vssl.artifacts import write_json
from vssl.config import ConfigError


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
