"""Clips measured in time, against the numbers of FGKVMem's code and closed forms."""

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.goldens import golden
from vssl.data.sampling.timed import draw_start, spread, timed_clip, timed_length, timed_span, view_start
from vssl.data.views.clip_views import gap
from vssl.randomness import stream


def rows(name: str) -> list[dict[str, float]]:
    arrays = golden("temporal_sampling", "fgkvmem")
    columns = json.loads(str(arrays[f"{name}_columns"]))
    assert len(arrays[name])
    return [dict(zip(columns, row.tolist())) for row in arrays[name]]


def test_test_views_equal_the_originals() -> None:
    for row in rows("uniform"):
        total, span = row["video_size"], row["clip_size"]
        start = view_start(total, span, int(row["clip_idx"]), int(row["num_views"]), to_the_end=bool(row["use_offset"]))
        assert start == pytest.approx(row["start"], abs=1e-9)
        assert start + span - 1 == pytest.approx(row["end"], abs=1e-9)
        assert start == pytest.approx(row["fraction"] * max(total - span, 0), abs=1e-9)


def test_spread_frames_equal_the_originals() -> None:
    table = golden("temporal_sampling", "fgkvmem")["frame_index"]
    assert len(table)
    for frames, start, end, num_frames, *indices in table.tolist():
        found = spread(int(frames), start, end, int(num_frames))
        assert found.tolist() == [index for index in indices if index >= 0]


def test_two_clips_are_spaced_as_the_originals() -> None:
    for row in rows("two_clip_random"):
        draws = random.Random(int(row["python random seed"]))
        # The video's length is not in the file; the first two uniform numbers and their starts give it.
        first, second = draws.random(), draws.random()
        room = (row["start0"] + row["start1"]) / (first + second)
        assert sorted([first * room, second * room]) == pytest.approx([row["start0"], row["start1"]], abs=1e-9)
        clips = [np.array([row["start0"], row["end0"]]), np.array([row["start1"], row["end1"]])]
        assert gap(*clips) == gap(*clips[::-1]) == pytest.approx(row["delta1"], abs=1e-9)


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (30, [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 60]),
        (25, [0, 3, 6, 10, 13, 17, 20, 24, 27, 31, 34, 38, 41, 45, 48, 50]),
        (15, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30]),
    ],
)
def test_sixteen_frames_at_stride_four(fps: float, expected: list[int]) -> None:
    assert timed_clip(300, fps, 16, 4, 0.0).tolist() == expected
    assert (timed_clip(300, fps, 16, 4, 100.0) - 100).tolist() == expected


@given(st.integers(1, 400), st.floats(1, 120), st.integers(1, 40), st.integers(1, 16), st.floats(0, 1))
def test_clips_stay_inside_and_in_order(total: int, fps: float, num_frames: int, stride: int, share: float) -> None:
    span = timed_span(num_frames, stride, fps)
    start = max(total - span, 0) * share
    clip = timed_clip(total, fps, num_frames, stride, start)
    assert clip.shape == (num_frames,)
    assert math.ceil(start) <= clip[0]
    assert clip[-1] < total
    assert (np.diff(clip) >= 0).all()
    assert clip[-1] - clip[0] <= span + 1
    # Never further apart than the stride in this video's frames, but for rounding.
    if clip[-1] - clip[0] + 1 > num_frames:
        assert np.diff(clip).max(initial=0) <= timed_length(num_frames, stride, fps) / max(num_frames - 1, 1) + 1


def test_a_short_video_repeats_its_last_frame() -> None:
    assert timed_clip(20, 30, 8, 8, 0.0).tolist() == [0, 9, 18, 19, 19, 19, 19, 19]


def test_as_many_frames_as_wanted_are_taken_as_they_are() -> None:
    assert timed_clip(16, 30, 16, 4, 0.0).tolist() == list(range(16))


def test_views_reach_the_end_only_if_asked() -> None:
    assert view_start(300, 64, 9, 10, to_the_end=False) < 236 - 20
    assert view_start(300, 64, 9, 10, to_the_end=True) == 9 * (236 // 9)
    assert view_start(300, 64, 0, 1, to_the_end=True) == 118


@given(st.integers(1, 300), st.integers(1, 100), st.integers(0, 99))
def test_drawn_clips_fit(total: int, span: int, seed: int) -> None:
    assert 0 <= draw_start(total, span, stream("timed", seed)) <= max(total - span, 0)


def test_a_start_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="20 frames"):
        timed_clip(20, 30, 8, 8, 20.0)
