"""Frame numbers and places to seek to, from packets and from an index, without any video."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssl.data.frame_table import WORTH_SEEKING, FrameTable, table_of_index, table_of_packets


def packet(pts: int | None, dts: int | None, *, key: bool = False, size: int = 9, discard: bool = False) -> object:
    return SimpleNamespace(pts=pts, dts=dts, size=size, is_discard=discard, is_keyframe=key)


def entry(timestamp: int, *, key: bool = False, size: int = 9, discard: bool = False) -> object:
    return SimpleNamespace(timestamp=timestamp, size=size, is_discard=discard, is_keyframe=key)


def every(number: int, gap: int, step: int = 512, first: int = 0) -> FrameTable:
    """Frames `step` ticks apart, with a key frame every `gap`."""
    return table_of_packets([packet(first + k * step, first + k * step - 99, key=k % gap == 0) for k in range(number)])


def test_packets_are_put_into_the_order_in_which_they_are_shown() -> None:
    table = table_of_packets(
        [
            packet(0, -20, key=True),
            packet(30, -10),
            packet(10, 0),
            packet(20, 10),
            packet(None, 15, size=0),  # the end of the stream, not a packet
            packet(60, 20, key=True),  # an open group: two frames are decoded after it and shown before it
            packet(40, 30),
            packet(50, 40),
        ]
    )
    assert table.stamps.tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert table.keys.tolist() == [0, 6]
    assert (table.begin, table.packets, table.exact) == (-20, 7, True)
    assert next(table.seeks(5)) == 0  # the frames shown before a key frame may need what came before it
    assert next(table.seeks(6)) == 60


@pytest.mark.parametrize(
    "packets",
    [
        [packet(0, 0, key=True), packet(None, 1)],
        [packet(0, 0, key=True), packet(0, 1)],
        [packet(0, 0), packet(1, 1)],
        [],
    ],
    ids=["no stamp", "the same stamp twice", "no key frame", "nothing"],
)
def test_what_cannot_be_sought_in(packets: list[object]) -> None:
    assert not table_of_packets(packets).exact


def test_hidden_packets_count_but_show_nothing() -> None:
    table = table_of_packets([packet(-2, -2, key=True, discard=True), packet(0, 0), packet(1, 1, key=True)])
    assert table.stamps.tolist() == [0, 1]
    assert table.packets == 3
    assert list(table.seeks(0)) == [-2]  # what comes before the first key frame shown needs the file's beginning


@given(st.integers(1, 200), st.integers(1, 30), st.integers(1, 600), st.integers(-50, 50))
def test_stamps_name_their_frames(number: int, gap: int, step: int, first: int) -> None:
    table = every(number, gap, step, first)
    assert [table.index(int(stamp)) for stamp in table.stamps] == list(range(number))
    assert table.index(first - 1) is None
    assert table.index(first + number * step) is None
    assert table.index(None) is None


@given(st.integers(1, 200), st.integers(1, 30), st.data())
def test_runs_hold_every_frame_once_and_leave_gaps_only_where_a_key_frame_is(
    number: int, gap: int, data: st.DataObject
) -> None:
    table = every(number, gap)
    wanted = sorted(data.draw(st.sets(st.integers(0, number - 1), min_size=1, max_size=20)))
    runs = list(table.runs(wanted))
    assert [index for run in runs for index in run] == wanted
    for before, after in pairwise(runs):
        assert (after[0] // gap) * gap - before[-1] > WORTH_SEEKING
    for run in runs:
        for one, other in pairwise(run):
            assert (other // gap) * gap - one <= WORTH_SEEKING


@given(st.integers(2, 200), st.integers(1, 30), st.integers(1, 600), st.integers(-50, 50))
def test_an_even_index_says_what_the_packets_say(number: int, gap: int, step: int, first: int) -> None:
    found = table_of_index([entry(first + k * step - 99, key=k % gap == 0) for k in range(number)], first)
    assert found is not None
    meant = every(number, gap, step, first)
    assert np.array_equal(found.stamps, meant.stamps)
    assert np.array_equal(found.keys, meant.keys)
    assert np.array_equal(found.key_seeks, meant.key_seeks)
    assert (found.begin, found.packets, found.exact) == (meant.begin, meant.packets, meant.exact)


@pytest.mark.parametrize(
    "entries",
    [
        [entry(0, key=True), entry(1), entry(3)],
        [entry(0, key=True), entry(0)],
        [entry(0, key=True), entry(1, size=0), entry(2)],
        [entry(0, key=True, discard=True), entry(1), entry(2)],
        [entry(0, key=True)],
    ],
    ids=["uneven", "no time passes", "a frame is repeated", "a frame is hidden", "one frame"],
)
def test_an_index_that_does_not_say_it_all(entries: list[object]) -> None:
    assert table_of_index(entries, 0) is None
