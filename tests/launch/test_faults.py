"""A stage killed at every write that matters, then started again: done once, nothing half-written, nothing repeated.

The kill is an exception that nothing in the code under test handles, raised just before the n-th durable operation
(write, fsync, rename, link, folder) of one run; the process is then as dead as far as its records go.
"""

import itertools
import json
import os
from pathlib import Path

import pytest

from launch.running import processes
from launch.running.claims import attempts, newest
from launch.running.elements import create_batch, element
from launch.store import Store
from vssl.artifacts import read_json, tree_listing
from vssl.run import read_journal


class Kill(BaseException):
    """Stands for SIGKILL: nobody catches it."""


class Killer:
    """Counts durable operations and kills at one of them."""

    def __init__(self, monkeypatch, at: int) -> None:
        self.count = 0
        for target, name in (
            (os, "fsync"), (os, "replace"), (os, "link"), (os, "ftruncate"), (os, "write"), (Path, "mkdir"),
            (Path, "unlink"), (Path, "touch"),
        ):  # fmt: skip
            monkeypatch.setattr(target, name, self._wrap(getattr(target, name), at))

    def _wrap(self, function, at):
        def wrapped(*arguments, **options):
            self.count += 1
            if self.count == at:
                raise Kill
            return function(*arguments, **options)

        return wrapped


@pytest.fixture
def die(monkeypatch):
    """Make all earlier attempts of this process look like those of processes that are gone."""
    lives = itertools.count()
    identity, is_alive = processes.identity, processes.is_alive

    def next_life():
        life = next(lives)
        monkeypatch.setattr("launch.running.claims.identity", lambda: {**identity(), "life": life})
        monkeypatch.setattr(
            "launch.running.claims.is_alive", lambda process: process["life"] == life and is_alive(process)
        )

    return next_life


def killed(monkeypatch, at, work):
    with monkeypatch.context() as patch:
        Killer(patch, at=at)
        with pytest.raises(Kill):
            work()


def every_record_is_whole(root: Path) -> None:
    for path in root.rglob("*.json"):
        if not path.name.startswith("."):
            json.loads(path.read_text())


def test_a_stage_survives_a_kill_at_every_durable_operation(tmp_path, chain, monkeypatch, die):
    from launch.job import Launch, run_element

    record = element(chain["first"], chain, "p")

    def run(store):
        return run_element(record, store, Launch(nonce=os.urandom(4).hex()))

    calm = Store(tmp_path / "calm", visibility_s=0)
    die()
    with monkeypatch.context() as patch:
        counter = Killer(patch, at=-1)
        assert run(calm) == 0
    calm_folder = calm.stage(record.folder)
    assert counter.count > 40, "the list of kill points looks too short"

    for at in range(1, counter.count + 1):
        store = Store(tmp_path / f"{at}", visibility_s=0)
        folder = store.stage(record.folder)
        die()
        killed(monkeypatch, at, lambda store=store: run(store))
        every_record_is_whole(store.root)
        done_before = read_json(folder.done)
        die()
        assert run(store) == 0, f"kill point {at}"
        every_record_is_whole(store.root)
        done = read_json(folder.done)
        assert done_before is None or done == done_before, "a completion record is written once"
        assert done["metrics"] == read_json(calm_folder.done)["metrics"]
        assert done["artifacts"] == read_json(calm_folder.done)["artifacts"]
        assert tree_listing(folder.artifacts) == tree_listing(calm_folder.artifacts)
        calm_rows = [(row["step"], row["values"]) for row in read_journal(calm_folder.journal)]
        assert [(row["step"], row["values"]) for row in read_journal(folder.journal)] == calm_rows
        assert [one["token"] for one in attempts(folder)] == list(range(1, newest(folder)["token"] + 1))


def test_a_submission_survives_a_kill_at_every_durable_operation(tmp_path, chain, monkeypatch):
    elements = [element(stage, chain, "p") for stage in chain]

    def submit(store):
        store.save_plan(chain)
        create_batch(store, "local", elements)

    with monkeypatch.context() as patch:
        counter = Killer(patch, at=-1)
        store = Store(tmp_path / "calm", visibility_s=0)
        submit(store)
    for at in range(1, counter.count + 1):
        store = Store(tmp_path / f"{at}", visibility_s=0)
        killed(monkeypatch, at, lambda store=store: submit(store))
        every_record_is_whole(store.root)
        folder = store.save_plan(chain)
        assert read_json(folder / "plan.json") == read_json(tmp_path / "calm" / "pipelines" / folder.name / "plan.json")
        assert (create_batch(store, "local", elements) / "elements.json").exists()
