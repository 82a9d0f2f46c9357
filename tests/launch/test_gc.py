"""What `gc` takes away and what it keeps; nothing is half removed."""

import subprocess
import sys
import time

import pytest

from launch.running.elements import create_batch, element
from launch.running.processes import identity
from launch.slurm.scheduler import SchedulerSilentError
from launch.store import Store
from launch.verbs import garbage
from launch.verbs.collecting import collect
from launch.verbs.garbage import find_garbage, remove
from launch.verbs.pins import is_pinned, pin, unpin
from tests.launch.slurm_records import Queue, age, attempt, finish, queued, send
from vssl.artifacts import read_json, write_json, write_text

LATER_S = 2 * garbage.GRACE_S


@pytest.fixture
def plan(stage, make_plan):
    first = stage("first", seed=1)
    return make_plan(first, stage("second", [first], seed=2))


@pytest.fixture
def old(stage, make_plan, plan):
    """Another pipeline, which has first in common with the plan."""
    return make_plan(plan["first"], stage("other", seed=7), sweep="old")


def found(store, in_flight=(), **more):
    garbage = find_garbage(store, in_flight, now_s=time.time() + LATER_S, **more)
    return {one.path.relative_to(store.root).as_posix(): one for one in garbage}


def test_a_store_in_use_has_no_garbage(plan, store):
    store.save_plan(plan)
    for name in plan.by_name:
        finish(store, plan, name)
    send(store, plan, list(plan.by_name), ended=True)
    (store.sources / "videos-1").mkdir(parents=True)
    assert found(store) == {}
    assert found(store, older_than_days=1.0) == {}


def test_what_nothing_reaches(plan, old, store):
    store.save_plan(plan)
    for one in (plan, old):
        for name in one.by_name:
            finish(store, one, name)
    write_text(store.stage(old["other"].folder).root / "large", "x" * 5000)
    void = send(store, plan, ["first"], job_id=None)
    write_json(void / "void.json", {"why": "", "at_ms": 0})
    nobodys = send(store, old, ["other"], ended=True)
    (store.debug("probe-1").root).mkdir(parents=True)
    (store.batches / "half").mkdir()
    (store.code / "0123").mkdir(parents=True)
    garbage = found(store)
    assert {path: one.why for path, one in garbage.items()} == {
        f"stages/{old['other'].folder}": "a stage that no pipeline uses",
        f"batches/{void.name}": "a batch that was given up",
        f"batches/{nobodys.name}": "a batch of stages that no pipeline uses",
        "batches/half": "a batch that was never written",
        "debug/probe-1": "left by executor=debug",
        "code/0123": "code that no batch uses",
    }
    assert garbage[f"stages/{old['other'].folder}"].size > 5000
    assert find_garbage(store, ()) == [], "what is an hour young may be about to be used"


def test_code_is_kept_while_a_batch_uses_it(plan, store):
    store.save_plan(plan)
    batch = send(store, plan, ["first"], ended=True)
    for name in ("x", "y"):
        (store.code / name).mkdir(parents=True)
    assert read_json(batch / "elements.json")["slurm"]["snapshot"] == "code/x"
    assert list(found(store)) == ["code/y"]


def test_an_earlier_generation_goes_once_there_is_a_new_one(plan, store):
    store.save_plan(plan)
    folder = finish(store, plan, "first")
    store.set_aside(plan["first"].folder, 1)
    assert found(store) == {}, "the only result there is"
    finish(store, plan, "first")
    assert list(found(store)) == [f"stages/{plan['first'].folder}~1"]
    assert folder.done.exists()


class TestOldPipelines:
    @pytest.fixture
    def aged(self, plan, old, store):
        store.save_plan(plan)
        folder = store.save_plan(old)
        for one in (plan, old):
            for name in one.by_name:
                finish(store, one, name)
        age(folder, 40 * 86400.0)
        age(store.stage(old["other"].folder).root, 40 * 86400.0)
        age(store.stage(old["first"].folder).root, 40 * 86400.0)
        return folder

    def test_only_if_asked(self, aged, old, plan, store):
        assert found(store) == {}
        assert list(found(store, older_than_days=60.0)) == []
        garbage = found(store, older_than_days=30.0)
        assert list(garbage) == [f"pipelines/{aged.name}", f"stages/{old['other'].folder}"]
        assert "last used 40 days ago" in garbage[f"pipelines/{aged.name}"].why

    def test_a_pinned_one_stays(self, aged, store):
        pin(aged)
        assert is_pinned(aged)
        assert found(store, older_than_days=30.0) == {}
        assert unpin(aged)
        assert not unpin(aged)
        assert found(store, older_than_days=30.0)

    def test_one_with_something_in_the_queue_stays(self, aged, old, store):
        assert found(store, {old["other"].folder}, older_than_days=30.0) == {}

    def test_one_that_runs_here_stays(self, aged, old, store):
        batch = create_batch(store, "local", [element(one, old, aged.name) for one in old])
        assert read_json(batch / "elements.json")["launcher"] == identity()
        assert found(store, older_than_days=30.0) == {}

    def test_all_of_it_goes(self, aged, old, plan, store):
        done = collect(store.root, 30.0, delete=True, scheduler=Queue())
        assert [one.path.name for one in done.garbage] == [aged.name, old["other"].folder]
        assert not aged.exists()
        assert not store.stage(old["other"].folder).root.exists()
        assert store.stage(plan["first"].folder).done.exists()
        assert not list(store.removing.iterdir())
        assert collect(store.root, 30.0, delete=True, scheduler=Queue()).garbage == []


def test_what_is_in_flight_is_never_touched(plan, store):
    """Its pipeline's folder was removed by hand."""
    batch = send(store, plan, ["first"])
    attempt(store, plan, "first", batch, "100_0", ago_s=9000.0)
    age(store.root, 10 * garbage.GRACE_S)
    queue = Queue(queued("100_0", "RUNNING", batch))
    assert collect(store.root, 1.0, delete=True, scheduler=queue).garbage == []
    assert store.stage(plan["first"].folder).root.is_dir()
    gone = collect(store.root, 1.0, delete=True, scheduler=Queue()).garbage
    assert {one.path.name for one in gone} == {plan["first"].folder, batch.name}


def test_a_silent_controller_means_that_nothing_is_known(plan, store):
    send(store, plan, ["first"])
    with pytest.raises(SchedulerSilentError):
        collect(store.root, delete=True, scheduler=Queue(silent="no answer"))


def test_a_dry_run_writes_nothing(plan, old, store):
    store.save_plan(plan)
    finish(store, old, "other")
    age(store.root, LATER_S)
    before = sorted(store.root.rglob("*"))
    done = collect(store.root)
    assert [one.path.name for one in done.garbage] == [old["other"].folder]
    assert done.lines(store.root)[-1].startswith("would remove 1 folders")
    assert sorted(store.root.rglob("*")) == before


def test_artifacts_on_another_disk_go_with_their_stage(plan, store, tmp_path):
    disk = tmp_path / "disk"
    elsewhere = Store(store.root, artifact_root={"probe": disk}, visibility_s=0)
    name = plan["first"].folder
    folder = elsewhere.prepare_folder(name, "probe")
    (folder.artifacts / "state").write_text("x" * 3000)
    (disk / "somebody's").mkdir()
    garbage = found(store)[f"stages/{name}"]
    assert garbage.size >= 3000
    list(remove([garbage], store))
    assert [path.name for path in disk.iterdir()] == ["somebody's"]


def test_a_link_that_the_store_did_not_make_is_not_followed(plan, store, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "videos").write_text("x")
    folder = store.stage(plan["first"].folder)
    folder.root.mkdir(parents=True)
    folder.artifacts.symlink_to(precious)
    list(remove(found(store).values(), store))
    assert not folder.root.exists()
    assert (precious / "videos").exists()


KILLED = """
import os, shutil, sys
from pathlib import Path
from launch.verbs import garbage
from launch.store import Store
real = shutil.rmtree
def rmtree(path, **more):
    next(file for file in Path(path).rglob("*") if file.is_file()).unlink()
    os._exit(9)
garbage.shutil.rmtree = rmtree
store = Store(Path(sys.argv[1]), visibility_s=0)
list(garbage.remove(garbage.find_garbage(store, (), now_s=float(sys.argv[2])), store))
"""


def test_killed_in_the_middle_leaves_nothing_half(plan, old, store):
    store.save_plan(plan)
    finish(store, old, "other")
    write_text(store.stage(old["other"].folder).root / "more", "x")
    words = [sys.executable, "-c", KILLED, str(store.root), str(time.time() + LATER_S)]
    assert subprocess.run(words, timeout=60).returncode == 9
    assert not store.stage(old["other"].folder).root.exists(), "gone from where it is looked for"
    assert list(store.removing.iterdir())
    list(remove([], store))
    assert not list(store.removing.iterdir())


def test_snapshots_are_read_only_and_go_all_the_same(store):
    inner = store.code / "0123" / "launch"
    inner.mkdir(parents=True)
    (inner / "job.py").write_text("")
    for path in (inner / "job.py", inner, inner.parent):
        path.chmod(0o500)
    assert len(list(remove(found(store).values(), store))) == 1
    assert not list(store.code.iterdir())
    assert not list(store.removing.iterdir())
