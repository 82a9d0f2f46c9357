"""Clip index arithmetic against the numbers of the original samplers, and its edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.goldens import golden
from vssl.data.sampling.dense import clip_indices, is_kept, num_starts
from vssl.data.sampling.dense import test_windows as windows_of

lengths = st.integers(1, 300), st.integers(1, 40), st.integers(1, 4)


@pytest.fixture(scope="module", name="golden")
def sampler_numbers() -> dict[str, np.ndarray]:
    return golden("sampler")


def test_point_10_test_windows_equal_the_originals(golden: dict[str, np.ndarray]) -> None:
    for i, (num_frames, stride, total) in enumerate(golden["cases"]):
        assert np.array_equal(windows_of(total, num_frames, stride), golden[f"test{i}"].reshape(-1, num_frames))


def test_point_10_train_starts_cover_the_originals_range(golden: dict[str, np.ndarray]) -> None:
    for i, (num_frames, stride, total) in enumerate(golden["cases"]):
        starts = range(num_starts(total, num_frames, stride))
        clips = np.stack([clip_indices(total, num_frames, stride, start) for start in starts])
        assert [clips[:, 0].min(), clips[:, 0].max()] == golden[f"train{i}_first_min_max"].tolist()
        assert [clips[:, -1].min(), clips[:, -1].max()] == golden[f"train{i}_last_min_max"].tolist()


def test_point_10_a_train_clip_equals_the_originals_for_the_same_start(golden: dict[str, np.ndarray]) -> None:
    for i, (num_frames, stride, total) in enumerate(golden["cases"]):
        start = int(np.random.RandomState(0).choice(range(num_starts(total, num_frames, stride)), 1)[0])
        assert np.array_equal(clip_indices(total, num_frames, stride, start), golden[f"train{i}_seed0"])


def test_point_10_short_videos_are_dropped(golden: dict[str, np.ndarray]) -> None:
    for i, (num_frames, stride, total) in enumerate(golden["cases"]):
        assert is_kept(total, num_frames, stride) == bool(golden[f"kept{i}"])
    assert not is_kept(17, 32, 1)
    assert is_kept(18, 32, 1)


@given(*lengths)
def test_train_clips_stay_inside_and_keep_their_stride(total: int, num_frames: int, stride: int) -> None:
    for start in {0, num_starts(total, num_frames, stride) - 1}:
        clip = clip_indices(total, num_frames, stride, start)
        assert clip.shape == (num_frames,)
        assert clip.min() >= 0
        assert clip.max() < total
        if total > num_frames * stride:
            assert (np.diff(clip) == stride).all()


@given(*lengths)
def test_windows_fit_and_hop_evenly(total: int, num_frames: int, stride: int) -> None:
    windows = windows_of(total, num_frames, stride)
    assert windows.min() >= 0
    assert windows.max() < total
    if total <= num_frames * stride:
        assert len(windows) == 1
    else:
        hop = max(1, num_frames * stride // 2 - 1)
        assert (np.diff(windows[:, 0]) == hop).all()
        assert windows[-1, 0] + hop > total - num_frames * stride  # no further window would fit


def test_a_start_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="has 8"):
        clip_indices(40, 32, 1, 8)
