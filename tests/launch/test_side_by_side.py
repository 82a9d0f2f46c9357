"""Several calls at a time, until one of them fails."""

import threading

import pytest

from launch.slurm.side_by_side import side_by_side


def test_each_item_has_its_call_and_no_more_run_at_once_than_asked_for():
    meeting, done = threading.Barrier(3), []

    def work(item):
        meeting.wait(60)  # passed only if three are at it together
        done.append(item)

    assert side_by_side(work, range(9), width=3) == []
    assert sorted(done) == list(range(9))


def test_a_single_one_needs_no_thread():
    threads = []
    side_by_side(lambda item: threads.append(threading.current_thread()), ["one"], width=4)
    side_by_side(lambda item: threads.append(threading.current_thread()), ["one", "two"], width=1)
    assert threads == [threading.current_thread()] * 3


def test_after_a_failure_nothing_is_begun_and_all_that_was_begun_has_ended():
    failed, begun, ended = threading.Event(), [], []

    def work(item):
        begun.append(item)
        if item == 1:
            failed.set()
            raise ValueError("one")
        failed.wait(60)
        ended.append(item)

    ((item, error),) = side_by_side(work, range(50), width=2)
    assert (item, str(error)) == (1, "one")
    assert sorted(begun) == sorted([*ended, 1])
    assert len(begun) < 50


def test_ctrl_c_leaves_the_rest_and_waits_for_what_was_begun():
    ended, meeting = [], threading.Barrier(2)

    def work(item):
        meeting.wait(60)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        ended.append(item)

    (failure,) = side_by_side(work, range(2), width=2)
    assert isinstance(failure[1], KeyboardInterrupt)
    assert len(ended) == 1


def test_ctrl_c_while_the_last_ones_are_awaited(monkeypatch):
    join, interrupted, ended = threading.Thread.join, [], []
    begun, go_on = threading.Event(), threading.Event()

    def interrupt_once(self):
        if not interrupted:
            interrupted.append(self)
            go_on.set()
            raise KeyboardInterrupt
        join(self)

    def work(item):
        if threading.current_thread() is threading.main_thread():
            begun.wait(60)
        else:
            begun.set()
            go_on.wait(60)
        ended.append(item)

    monkeypatch.setattr(threading.Thread, "join", interrupt_once)
    with pytest.raises(KeyboardInterrupt):
        side_by_side(work, range(2), width=2)
    assert len(ended) == 2
