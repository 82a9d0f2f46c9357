import dataclasses
import errno
import os
import shutil
from pathlib import Path

import pytest

from launch.job import Launch, run_element
from launch.plan import plan_from_mapping
from launch.running.elements import create_batch, element
from launch.running.guard import resolve_inputs
from launch.store import Store, generation
from vssl.artifacts import read_json, sha256_file, write_json
from vssl.config import ConfigError


def test_a_plan_is_saved_once_and_read_back(store, chain):
    folder = store.save_plan(chain)
    assert folder.parent == store.root / "pipelines"
    assert folder.name.startswith("probes-")
    assert store.save_plan(chain) == folder
    assert store.pipeline(plan_from_mapping(read_json(folder / "plan.json"))) == folder


def test_another_config_makes_another_pipeline(store, chain, make_plan, stage):
    assert store.pipeline(make_plan(stage("first", seed=5))) != store.pipeline(chain)


def test_nothing_is_reusable_in_an_empty_store(store, chain):
    assert store.reusable_stages(chain) == {}


def test_a_child_is_reusable_only_with_its_parents_current_digests(store, chain, run_stage):
    assert run_stage(chain, "first") == 0
    assert run_stage(chain, "second") == 0
    assert set(store.reusable_stages(chain)) == {"first", "second"}

    done = store.stage(chain["first"].folder).done
    record = read_json(done)
    record["artifacts"]["state"]["digest"] = "0" * 64
    write_json(done, record)
    assert set(store.reusable_stages(chain)) == {"first"}


def test_a_child_without_its_parent_is_not_reusable(store, chain, run_stage):
    run_stage(chain, "first")
    run_stage(chain, "second")
    store.set_aside(chain["first"].folder, 1)
    assert store.reusable_stages(chain) == {}


def test_finished_stages_of_other_stores_are_read_and_never_written(tmp_path, store, chain, run_stage):
    run_stage(chain, "first")
    before = sorted(path.relative_to(store.root) for path in store.root.rglob("*"))
    other = Store(tmp_path / "mine", read=(store.root,), visibility_s=0)
    assert set(other.reusable_stages(chain)) == {"first"}
    assert other.reusable_stages(chain)["first"].folder.root.is_relative_to(store.root)
    assert sorted(path.relative_to(store.root) for path in store.root.rglob("*")) == before
    assert not other.root.exists()


def test_setting_aside_counts_generations_and_only_one_process_wins(store, chain, run_stage):
    name = chain["first"].folder
    run_stage(chain, "first")
    folder = store.stage(name)
    assert generation(folder) == 1
    assert store.set_aside(name, 1)
    assert generation(folder) == 2
    run_stage(chain, "first")
    assert read_json(store.stage(name).done)["generation"] == 2
    assert not store.set_aside(name, 1), "whoever decided on an older view must not rename the new folder"
    assert folder.done.exists()
    assert store.set_aside(name, 2)
    shutil.rmtree(folder.root.with_name(f"{name}~1"))
    assert generation(folder) == 3, "a number that is taken would never be free again"


def test_artifacts_of_a_kind_lie_where_artifact_root_says(tmp_path, chain):
    store = Store(tmp_path / "root", artifact_root={"probe": tmp_path / "big"}, visibility_s=0)
    folder = store.prepare_folder("probe-1", "probe")
    (folder.artifacts / "state").write_text("x")
    assert folder.artifacts.is_symlink()
    assert [path.name for path in (tmp_path / "big").glob("*/state")] == ["state"]
    store.set_aside("probe-1", 1)
    again = store.prepare_folder("probe-1", "probe")
    assert not (again.artifacts / "state").exists(), "a new generation starts with an empty artifacts folder"


def test_a_store_survives_the_trip_to_a_job(tmp_path):
    store = Store(tmp_path, (tmp_path / "a",), {"flow": tmp_path / "b"}, 3.0)
    assert Store.from_mapping(store.to_mapping()) == store


def test_of_two_finished_parents_a_job_takes_the_one_that_the_plan_stands_on(tmp_path, store, make_plan, stage):
    first = stage("first", seed=1)
    second = stage("second", [first], seed=2)
    plan = make_plan(first, second, stage("third", [second], seed=3))

    def run(name, store):
        return run_element(element(plan[name], plan, "p"), store, Launch(nonce="n"))

    for place in (store, mine := Store(tmp_path / "mine", read=(store.root,), visibility_s=0)):
        assert [run(name, place) for name in ("first", "second")] == [0, 0]
    stale = mine.stage(second.folder)
    (stale.artifacts / "state").write_text("made from another first")
    record = read_json(stale.done)
    record["inputs"]["before"][0]["digest"] = "0" * 64
    record["artifacts"]["state"]["digest"] = sha256_file(stale.artifacts / "state")
    write_json(stale.done, record)

    assert run("third", mine) == 0
    assert set(mine.reusable_stages(plan)) == {"first", "second", "third"}
    theirs = read_json(store.stage(second.folder).done)["artifacts"]["state"]["digest"]
    assert read_json(mine.stage(plan["third"].folder).done)["inputs"]["before"][0]["digest"] == theirs


def test_an_artifact_may_come_into_sight_after_its_record(tmp_path, chain, run_stage, store, monkeypatch):
    run_stage(chain, "first")
    state = store.stage(chain["first"].folder).artifacts / "state"
    state.rename(tmp_path / "unseen")
    monkeypatch.setattr("launch.store.time.sleep", lambda seconds: (tmp_path / "unseen").rename(state))
    late = dataclasses.replace(store, visibility_s=2.0)
    assert resolve_inputs(element(chain["second"], chain, "p"), late)["before"][0].path == state


def test_missing_means_not_yet_while_names_may_be_invisible(tmp_path, monkeypatch):
    store = Store(tmp_path, visibility_s=2.0)
    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            write_json(tmp_path / "late.json", {"here": True})

    monkeypatch.setattr("launch.store.time.sleep", nap)
    assert store.when_visible(tmp_path / "late.json") == {"here": True}
    assert Store(tmp_path, visibility_s=0).when_visible(tmp_path / "never.json") is None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_bad_input_and_leaves_nothing(store, chain, monkeypatch, code):
    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code), str(store.root))

    store.root.mkdir()
    monkeypatch.setattr("vssl.artifacts.os.fsync", full)
    with pytest.raises(ConfigError, match=r"no space left under .*root=FOLDER"):
        store.save_plan(chain)
    with pytest.raises(ConfigError, match="no space left"):
        create_batch(store, "local", [element(chain["first"], chain, "p")])
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
    assert list(store.batches.iterdir()) == []


def test_a_read_only_root_is_bad_input(store, chain, monkeypatch):
    def read_only(self: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(ConfigError, match=r"cannot write .*Read-only.*root=FOLDER"):
        store.save_plan(chain)
    assert not store.root.exists()


def test_a_root_that_is_a_file_is_bad_input(tmp_path, chain):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"is a file, not a folder; .* store.artifact_root.flow=FOLDER"):
        Store(tmp_path, artifact_root={"flow": tmp_path / "file" / "x"}).check()
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        Store(tmp_path / "file").save_plan(chain)
