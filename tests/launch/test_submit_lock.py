"""The lock of a store's launchers: one at a time, and nobody's lock is taken who is alive."""

import os
import threading
import time

import pytest

from launch.running import processes
from launch.slurm import submit_lock
from launch.slurm.submit_lock import LockHeldError, submitting
from vssl.artifacts import read_json, write_json


def say_nothing(text):
    pass


@pytest.fixture
def owner(store):
    """Another launcher's lock, number 7."""

    def make(**changes):
        store.submitting.mkdir(parents=True, exist_ok=True)
        record = {"owner": {**processes.identity(), "pid": 99, **changes}, "nonce": "other", "at_ms": 0}
        write_json(store.submitting / "7.json", record)
        return store.submitting / "7.json"

    return make


def test_one_after_the_other(store):
    order = []

    def hold(name):
        with submitting(store, say_nothing):
            order.append(name)
            time.sleep(0.05)
            order.append(name)

    threads = [threading.Thread(target=hold, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(order) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert order[::2] == order[1::2]


def test_who_waits_says_for_whom_and_gives_up_in_the_end(store):
    said = []
    waiting = submitting(store, said.append, wait_s=0.3)
    with submitting(store, say_nothing), pytest.raises(LockHeldError, match="try again later"):
        waiting.__enter__()
    (line,) = said
    assert f"process {os.getpid()} on {processes.identity()['host']}" in line


def test_the_lock_of_a_dead_process_is_passed_over(store, owner):
    owner()  # process 99 was started at another time, if there is one
    with submitting(store, say_nothing) as lock:
        assert lock.number == 8
        lock.check()
    assert "released_at_ms" in read_json(store.submitting / "8.json")


def test_on_another_host_a_beat_is_believed_until_it_is_stale(store, owner):
    path = owner(host="login2", boot_id="another")
    with pytest.raises(LockHeldError), submitting(store, say_nothing, wait_s=0.2):
        pass
    now = time.time()
    os.utime(path, (now - submit_lock.STALE_S - 1,) * 2)
    with submitting(store, say_nothing) as lock:
        assert lock.number == 8


def test_a_lock_beats(store, monkeypatch):
    monkeypatch.setattr(submit_lock, "BEAT_EVERY_S", 0.02)
    with submitting(store, say_nothing) as lock:
        path = store.submitting / f"{lock.number}.json"
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 120
        while path.stat().st_mtime == 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_of_two_that_find_a_dead_owner_one_goes_on(store, owner, monkeypatch):
    """Both have read number 7; the other one is faster between this one's look and its creation."""
    owner()
    create, raced = submit_lock.create_json, []

    def slower(path, record):
        if not raced:
            monkeypatch.setattr(submit_lock, "create_json", create)
            raced.append(submit_lock._acquire(store.submitting, say_nothing, 1.0))
        return create(path, record)

    monkeypatch.setattr(submit_lock, "create_json", slower)
    with pytest.raises(LockHeldError), submitting(store, say_nothing, wait_s=0.3):
        pass
    raced[0].check()
    assert raced[0].number == 8


def test_one_that_slept_through_a_whole_submission_makes_no_lower_lock_count(store, owner, monkeypatch):
    """It has read number 7; until it creates number 8, others have got to 9, and number 8 is gone."""
    owner()
    create, slept = submit_lock.create_json, []

    def after_a_long_sleep(path, record):
        if not slept:
            slept.append(path)
            monkeypatch.setattr(submit_lock, "create_json", create)
            for _ in range(2):
                with submitting(store, say_nothing):
                    pass
            (store.submitting / "8.json").unlink()
        return create(path, record)

    monkeypatch.setattr(submit_lock, "create_json", after_a_long_sleep)
    with submitting(store, say_nothing) as lock:
        assert lock.number == 10
    assert slept == [store.submitting / "8.json"]


def test_who_was_taken_for_dead_writes_no_more(store):
    with submitting(store, say_nothing) as lock:
        write_json(store.submitting / f"{lock.number + 1}.json", {"owner": processes.identity(), "nonce": "x"})
        with pytest.raises(LockHeldError, match="taken over"):
            lock.check()
    assert "released_at_ms" not in read_json(store.submitting / f"{lock.number}.json")


def test_old_numbers_are_cleared_away(store):
    for _ in range(60):
        with submitting(store, say_nothing):
            pass
    numbers = sorted(int(path.stem) for path in store.submitting.glob("*.json"))
    assert numbers[-1] == 60
    assert len(numbers) <= submit_lock._KEPT + 2
