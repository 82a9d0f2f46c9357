"""Clips of equal parts of a video, against the numbers of STS and brute force."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from tests.goldens import golden
from vssl.data.sampling.dense import Indices
from vssl.data.sampling.samplers import Sampler, build_sampler
from vssl.data.sampling.sampling_config import SegmentsConfig
from vssl.data.sampling.segments import SegmentStarts, central_starts, looped_clips, segment_starts
from vssl.randomness import stream

shapes = st.integers(1, 400), st.integers(1, 40), st.integers(1, 9), st.integers(1, 32)


def cases(kind: str) -> list[tuple[int, int, int, int, int, np.ndarray]]:
    """(frames, stride, clips, total, seed, indices) of every row of a kind, as the keys name them."""
    found = []
    for key, indices in golden("sampling", "sts").items():
        if match := re.fullmatch(rf"{kind}_(\d+)x(\d+)x(\d+)_n(\d+)(?:_seed(\d+))?", key):
            num_frames, stride, clips, total, seed = (int(group or 0) for group in match.groups())
            found.append((num_frames, stride, clips, total, seed, indices.reshape(clips, num_frames)))
    assert found
    return found


def sampler_of(num_frames: int, stride: int, clips: int) -> Sampler:
    """As a recipe has it: the original's clips of one frame are the frames of one clip."""
    if num_frames == 1:
        return build_sampler(SegmentsConfig(sparse=True), clips, stride)
    return build_sampler(SegmentsConfig(), num_frames, stride)


def test_test_clips_equal_the_originals() -> None:
    for num_frames, stride, clips, total, _, expected in cases("test"):
        sampler = sampler_of(num_frames, stride, clips)
        found = sampler.spread(total, 25.0, clips)
        assert sampler.keeps(total)
        assert np.array_equal(found, expected.T if num_frames == 1 else expected), (num_frames, stride, clips, total)


def test_training_clips_equal_the_originals_for_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def draw(starts: SegmentStarts, generator: Generator) -> Indices:
        return starts.at(np.random.RandomState(seeds[-1]).randint(starts.choices, size=len(starts.first)))

    monkeypatch.setattr(SegmentStarts, "draw", draw)
    for num_frames, stride, clips, total, seed, expected in cases("train"):
        seeds.append(seed)
        if num_frames == 1 or clips == 1:
            found = sampler_of(num_frames, stride, clips).draw(total, 25.0, Generator())
            assert np.array_equal(found, expected.flatten()), (num_frames, stride, clips, total)
        else:  # no stage trains on several dense clips of a video
            starts = draw(segment_starts(total, num_frames, stride, clips), Generator())
            assert np.array_equal(looped_clips(starts, num_frames, stride, total), expected)


@given(*shapes)
def test_training_clips_lie_in_their_parts(total: int, num_frames: int, stride: int, clips: int) -> None:
    starts = segment_starts(total, num_frames, stride, clips)
    lowest, highest = starts.at(np.zeros(clips, dtype=np.int64)), starts.at(np.full(clips, starts.choices - 1))
    assert (np.diff(lowest) >= 0).all()
    assert (np.diff(highest) >= 0).all()
    assert lowest.min() >= 0
    span = num_frames * stride
    if total >= span:
        room = total - span + 1
        assert highest.max() < room + (room < clips)  # every clip fits; rounding may cost one its last frame
        if room >= clips:  # one clip in each equal part
            assert (highest[:-1] < lowest[1:]).all()
            assert starts.choices == room // clips
    else:
        assert highest.max() == 0
    drawn = starts.draw(stream("segments", total, num_frames, stride, clips))
    assert (lowest <= drawn).all()
    assert (drawn <= highest).all()


@given(*shapes)
def test_test_clips_are_the_middles_of_equal_parts(total: int, num_frames: int, stride: int, clips: int) -> None:
    starts = central_starts(total, num_frames, stride, clips)
    room = total - num_frames * stride + 1
    expected = [max(0, (2 * k + 1) * room // (2 * clips)) for k in range(clips)]
    assert np.abs(starts - expected).max() <= 1  # the original's floats may fall on either side of a whole number
    if room > 0:
        assert starts.min() >= 0
        assert starts.max() < room
        assert (np.diff(starts) >= 0).all()


@given(*shapes)
def test_clips_go_round_a_short_video(total: int, num_frames: int, stride: int, clips: int) -> None:
    found = looped_clips(central_starts(total, num_frames, stride, clips), num_frames, stride, total)
    assert found.shape == (clips, num_frames)
    for clip in found.tolist():
        frame = clip[0]
        for index in clip:  # brute force: step by step
            assert index == frame
            for _ in range(stride):
                frame = 0 if frame == total - 1 else frame + 1


def test_ten_views_of_a_short_video_are_one_view() -> None:
    found = looped_clips(central_starts(20, 8, 8, 10), 8, 8, 20)
    assert (found == found[0]).all()


def test_sparse_clips_are_one_frame_of_each_part() -> None:
    starts = segment_starts(83, 1, 1, 8)
    assert starts.choices == 83 // 8
    assert starts.first.tolist() == [10 * k for k in range(8)]
