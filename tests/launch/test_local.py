import dataclasses
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.executors.local import execute
from launch.plan import Resources
from launch.running.claims import attempts, newest
from launch.running.machine import Machine, gpus_of
from tests.waiting import wait_until
from vssl.artifacts import read_json, sha256_file, write_json
from vssl.config import ConfigError
from vssl.run import read_journal


@pytest.fixture
def run(store):
    def run(plan, *names, cores=2, **options):
        selection = list(names) or [stage.name for stage in plan]
        return execute(plan, selection, store, machine=Machine(cores), track=False, **options)

    return run


@pytest.fixture
def start(store):
    """Start the queue in a process of its own."""
    started = []

    def start(plan, cores=2, *force):
        pipeline = store.save_plan(plan)
        words = [sys.executable, str(Path(__file__).with_name("queue_line.py")), str(pipeline), str(cores), *force]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        child = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(child)
        return child

    yield start
    for child in started:
        if child.poll() is None:
            child.kill()
        child.communicate()


def span(store, stage):
    record = newest(store.stage(stage.folder))
    return record["started_at_ms"], record["ended_at_ms"]


def steps(store, stage):
    return [row["step"] for row in read_journal(store.stage(stage.folder).journal)]


def test_a_graph_runs_in_order_and_a_second_run_reuses_all(store, run, stage, make_plan, capsys):
    top = stage("top", seed=1)
    left, right = stage("left", [top], seed=2), stage("right", [top], seed=3)
    plan = make_plan(top, left, right, stage("bottom", [left, right], seed=4))
    assert run(plan) == 0
    for name, parents in (("left", ["top"]), ("right", ["top"]), ("bottom", ["left", "right"])):
        for parent in parents:
            assert span(store, plan[name])[0] >= span(store, plan[parent])[1]
    batches = list(store.batches.iterdir())
    assert len(batches) == 1
    assert [one["name"] for one in read_json(batches[0] / "elements.json")["elements"].values()] == list(plan.by_name)

    capsys.readouterr()
    assert run(plan) == 0
    out = capsys.readouterr().out
    assert out.count("finished before") == 4
    assert list(store.batches.iterdir()) == batches
    assert all(len(attempts(store.stage(one.folder))) == 1 for one in plan)
    assert "other code" not in out

    folder = store.stage(top.folder)
    write_json(folder.done, {**read_json(folder.done), "code": "older"})
    assert run(plan) == 0
    assert "reused; made by other code" in capsys.readouterr().out


def test_a_failure_cancels_its_subtree_and_nothing_else(store, run, stage, make_plan, capsys):
    bad = stage("bad", seed=1, fail_at=1)
    child = stage("child", [bad], seed=2)
    plan = make_plan(bad, child, stage("grandchild", [child], seed=3), stage("other", seed=4))
    assert run(plan) == 1
    assert store.stage(plan["other"].folder).done.exists()
    assert not store.stage(plan["child"].folder).root.exists()
    out = capsys.readouterr().out
    assert "bad: failed: RuntimeError: the probe fails at step 1" in out
    assert "grandchild: cancelled, because bad failed" in out

    mended = stage("bad", seed=1)
    child = stage("child", [mended], seed=2)
    plan = make_plan(mended, child, stage("grandchild", [child], seed=3), stage("other", seed=4))
    assert run(plan) == 0
    assert len(attempts(store.stage(plan["bad"].folder))) == 2
    assert len(attempts(store.stage(plan["other"].folder))) == 1
    assert steps(store, plan["bad"]) == [0, 1, 2]


def test_never_more_stages_at_once_than_there_is_room_for(store, run, stage, make_plan):
    plan = make_plan(*(stage(f"probe{seed}", seed=seed, steps=2, step_s=0.1) for seed in range(5)))
    assert run(plan, cores=2) == 0
    spans = [span(store, one) for one in plan]
    overlap = max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)
    assert overlap == 2


def test_only_the_selected_stages_run_and_parents_must_be_there(store, run, chain):
    with pytest.raises(ConfigError, match=r"second needs first, which is neither finished nor selected"):
        run(chain, "second")
    assert not store.root.exists()
    assert run(chain, "first") == 0
    assert not store.stage(chain["second"].folder).root.exists()
    assert run(chain, "second") == 0
    with pytest.raises(ConfigError, match=r"no stage 'frist' \(did you mean `first`\?\)"):
        run(chain, "frist")


def test_force_redoes_a_stage_and_equal_digests_keep_its_children(store, run, chain):
    run(chain)
    assert run(chain, force=["first"]) == 0
    folder = store.stage(chain["first"].folder)
    assert read_json(folder.done)["generation"] == 2
    assert (folder.root.parent / f"{folder.root.name}~1" / "done.json").exists()
    assert read_json(store.stage(chain["second"].folder).done)["generation"] == 1


def test_changed_parents_redo_the_child_from_scratch(store, run, chain):
    run(chain)
    folder = store.stage(chain["first"].folder)
    record = read_json(folder.done)
    (folder.artifacts / "state").write_text("other content")
    record["artifacts"]["state"]["digest"] = sha256_file(folder.artifacts / "state")
    write_json(folder.done, record)
    assert run(chain) == 0
    child = read_json(store.stage(chain["second"].folder).done)
    assert child["generation"] == 2
    assert child["inputs"]["before"][0]["digest"] == record["artifacts"]["state"]["digest"]


def test_a_changed_artifact_is_refused_by_the_guard(store, run, chain, capsys):
    run(chain, "first")
    (store.stage(chain["first"].folder).artifacts / "state").write_text("damaged")
    assert run(chain) == 1
    assert "second: failed: second was not started" in capsys.readouterr().out


def test_two_ranks_of_a_stage_share_one_attempt(store, run, stage, make_plan):
    plan = make_plan(stage("pair", resources={"tasks_per_node": 2}))
    assert run(plan) == 0
    assert read_json(store.stage(plan["pair"].folder).done)["ranks"] == 2
    assert len(attempts(store.stage(plan["pair"].folder))) == 1


def test_a_rank_that_dies_takes_the_others_with_it(store, start, stage, make_plan):
    plan = make_plan(stage("pair", steps=400, step_s=0.05, resources={"tasks_per_node": 2}))
    queue = start(plan)
    folder = store.stage(plan["pair"].folder)
    wait_until(lambda: steps(store, plan["pair"]))
    rank0 = newest(folder)["process"]["pid"]
    others = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _parent(path) == queue.pid]
    victim = next(pid for pid in others if pid != rank0)
    os.kill(victim, signal.SIGKILL)
    out, _ = queue.communicate(timeout=120)
    assert queue.returncode == 1
    assert "pair: failed: rank 1 was killed by SIGKILL" in out
    assert not Path(f"/proc/{rank0}").exists()
    assert "rank 1" in newest(folder)["error"], "rank 0 has only noticed; the reason is the other rank's"


def _parent(path):
    try:
        return int(path.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_saves_exits_75_and_the_same_line_goes_on(store, start, stage, make_plan, number):
    slow = stage("slow", seed=int(number), steps=60, step_s=0.05)
    plan = make_plan(slow, stage("after", [slow], seed=9))
    queue = start(plan)
    wait_until(lambda: len(steps(store, slow)) > 3)
    queue.send_signal(number)
    out, _ = queue.communicate(timeout=120)
    assert queue.returncode == 75, out
    assert "the same line goes on" in out
    assert newest(store.stage(slow.folder))["outcome"] == "saved"
    again = start(plan)
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0, out
    assert "slow: goes on" in out
    assert steps(store, slow) == list(range(60))


def test_a_killed_stage_fails_and_the_same_line_completes_it(store, start, stage, make_plan):
    plan = make_plan(stage("slow", steps=60, step_s=0.05), stage("other", seed=7))
    queue = start(plan)
    folder = store.stage(plan["slow"].folder)
    wait_until(lambda: len(steps(store, plan["slow"])) > 3)
    os.kill(newest(folder)["process"]["pid"], signal.SIGKILL)
    out, _ = queue.communicate(timeout=120)
    assert queue.returncode == 1
    assert "slow: failed: rank 0 was killed by SIGKILL" in out
    assert store.stage(plan["other"].folder).done.exists()
    again = start(plan)
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0, out
    assert steps(store, plan["slow"]) == list(range(60))
    assert read_json(folder.done)["attempts"] == 2


def test_a_killed_queue_leaves_stages_that_the_next_queue_waits_for(store, start, stage, make_plan):
    plan = make_plan(stage("slow", steps=160, step_s=0.05))  # still at work when the next queue has been loaded
    queue = start(plan)
    wait_until(lambda: steps(store, plan["slow"]))
    queue.kill()
    again = start(plan)
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0, out
    assert "of another queue; waiting" in out
    assert read_json(store.stage(plan["slow"].folder).done)["attempts"] == 1


def test_two_queues_on_one_plan_run_every_stage_once(store, start, stage, make_plan):
    roots = [stage(f"root{seed}", seed=seed, steps=4, step_s=0.1) for seed in range(3)]
    plan = make_plan(*roots, stage("join", roots, seed=9))
    queues = [start(plan), start(plan)]
    outs = [queue.communicate(timeout=120)[0] for queue in queues]
    assert [queue.returncode for queue in queues] == [0, 0], outs
    for one in plan:
        assert len(attempts(store.stage(one.folder))) == 1, one.name
        assert steps(store, one) == list(range(one.config.get("steps", 3)))


def test_a_queue_that_fails_leaves_no_stage_running(store, run, stage, make_plan):
    quick = stage("quick", seed=1)
    plan = make_plan(stage("slow", steps=400, step_s=0.05), quick, stage("next", [quick], seed=2))
    damaged = store.stage(plan["next"].folder).inputs
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    with pytest.raises(ConfigError, match=r"inputs.json is damaged .*; remove it"):
        run(plan)
    assert newest(store.stage(plan["slow"].folder))["outcome"] == "saved"
    damaged.unlink()
    assert run(plan, "quick", "next") == 0


def test_force_on_a_running_stage_is_refused(store, start, run, stage, make_plan):
    plan = make_plan(stage("slow", steps=100, step_s=0.05))
    queue = start(plan)
    wait_until(lambda: steps(store, plan["slow"]))
    with pytest.raises(ConfigError, match="is running in process"):
        run(plan, force=["slow"])
    queue.send_signal(signal.SIGTERM)
    assert queue.wait(120) == 75


def test_gpus_limit_what_asks_for_them_and_a_machine_without_takes_one_rank():
    big = Resources(tasks_per_node=4, gpus_per_node=4, cpus_per_task=8)
    machine = Machine(16, ("0", "1"))
    share = machine.take(big)
    assert (share.ranks, share.gpus, share.cores) == (2, ("0", "1"), 0)
    assert machine.take(Resources(gpus_per_node=1)) is None
    assert machine.take(Resources()).gpus == ()
    machine.give_back(share)
    assert machine.take(Resources(gpus_per_node=1)).gpus == ("0",)
    laptop = Machine(2).take(big)
    assert (laptop.ranks, laptop.cores, laptop.gpus) == (1, 2, ())


def test_gpus_are_read_as_the_driver_reads_them():
    for text, names in (("", ()), ("-1", ()), ("0, 2", ("0", "2")), ("GPU-a,-1,1", ("GPU-a",)), ("NoDevFiles", ())):
        assert gpus_of({"CUDA_VISIBLE_DEVICES": text}) == names


def test_a_full_disk_is_bad_input_before_anything_runs(store, run, chain, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device", str(store.root))

    monkeypatch.setattr("vssl.artifacts.os.fsync", full)
    with pytest.raises(ConfigError, match="no space left under"):
        run(chain)
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_an_unprepared_dataset_is_bad_input(store, run, stage, make_plan):
    pending = dataclasses.replace(stage("first"), stage_id="pending-1")
    with pytest.raises(ConfigError, match="waits for a dataset that is not prepared"):
        run(make_plan(pending))
    assert not store.root.exists()
