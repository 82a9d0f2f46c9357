"""Jobs in the queue of which the store has no record: waited for as long as that can help, and named all at once."""

import time

import pytest

from launch.slurm.recovery import recover
from launch.store import Store
from tests.launch.slurm_records import Queue, queued
from vssl.config import ConfigError


@pytest.fixture
def place(store):
    store.batches.mkdir(parents=True)
    return store.batches.resolve()


def said(store, queue):
    """What a recovery says that refuses, else nothing."""
    slurm = Queue(*queue)
    slurm.config = dict
    try:
        recover(store, slurm, queue, lambda: None)
    except ConfigError as error:
        return str(error)
    return ""


def test_records_of_new_jobs_may_come_into_sight(store, place, monkeypatch):
    asked = []

    def appears(self, *paths):
        asked.append(sorted(path.parent.name for path in paths))
        for path in paths:
            path.parent.mkdir()
            path.write_text("{}")
        return True

    monkeypatch.setattr(Store, "appears", appears)
    now_s = time.time()
    queue = [queued(f"{job}_0", folder=str(place / f"b{job}"), submitted_s=now_s) for job in (7, 9)]
    refused = said(store, queue)
    assert asked == [["b7", "b9"]], "together: each by itself would take the same time again"
    assert refused == ""


def test_for_those_of_old_jobs_nobody_waits(store, place, monkeypatch):
    monkeypatch.setattr(Store, "appears", lambda self, *paths: pytest.fail("this could take 90 seconds"))
    old_s = time.time() - store.visibility_s - 3600
    queue = [
        queued("9_0", folder=str(place / "b9"), submitted_s=old_s),
        queued("7_0", folder=str(place / "b7"), submitted_s=time.time()),
        queued("8_0", folder="/of/another/store/batches/b8", submitted_s=old_s),
    ]
    assert f"records are gone ({place / 'b7'} and 1 more)" in said(store, queue)
    assert said(store, queue).endswith("`scancel 7 9`")
