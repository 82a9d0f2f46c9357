"""Frames spread over a window, against the numbers of the video transformers' code and closed forms."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.goldens import golden
from vssl.data.sampling.linspace import central_begin, is_enough, linspace_clip, num_begins

shapes = st.integers(1, 400), st.integers(1, 40), st.integers(1, 32)


def test_windows_equal_the_originals() -> None:
    rows = json.loads(str(golden("15_temporal_sampling", "vtransformer")["rows"]))
    assert rows
    for row in rows:
        total, num_frames, stride = row["total"], row["num_frames"], row["interval"]
        begin = random.Random(row["seed"]).randrange(num_begins(total, num_frames, stride))
        assert begin == row["begin"]
        assert min(begin + num_frames * stride, total) == row["end"]
        assert linspace_clip(total, num_frames, stride, begin).tolist() == row["idx"]
        assert is_enough(total, num_frames) == row["ok"]


@given(*shapes)
def test_point_13_windows_are_spread_from_their_first_frame_to_their_last(
    total: int, num_frames: int, stride: int
) -> None:
    for begin in {0, num_begins(total, num_frames, stride) - 1, central_begin(total, num_frames, stride)}:
        clip = linspace_clip(total, num_frames, stride, begin)
        window = min(num_frames * stride, total - begin)
        assert clip.shape == (num_frames,)
        assert clip[0] == begin
        assert (np.diff(clip) >= 0).all()
        if num_frames > 1:
            assert clip[-1] == begin + window - 1 < total
            exact = [begin + k * (window - 1) / (num_frames - 1) for k in range(num_frames)]
            assert all(0 <= place - index < 1 + 1e-9 for place, index in zip(exact, clip))
        if total >= num_frames * stride:
            assert window == num_frames * stride  # every window that is drawn fits


@given(*shapes)
def test_the_central_window_leaves_the_same_at_both_ends(total: int, num_frames: int, stride: int) -> None:
    begin = central_begin(total, num_frames, stride)
    after = total - begin - num_frames * stride
    assert after - begin in (0, 1) or begin == 0 > after


def test_a_begin_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="40 frames"):
        linspace_clip(40, 8, 4, 40)
