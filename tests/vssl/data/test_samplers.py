"""Clips by configuration: every rule keeps its promises, and a test's views are the same every time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vssl.config import ConfigError, build, semantic
from vssl.data.dataset_config import ClipsConfig
from vssl.data.sampling import dense
from vssl.data.sampling.samplers import VideoClips, build_sampler
from vssl.data.sampling.sampling_config import DenseConfig, LinspaceConfig, SamplingConfig, SegmentsConfig, TimedConfig
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.drawn import TestView, finished
from vssl.randomness import stream

RULES: dict[str, SamplingConfig] = {
    "dense": DenseConfig(),
    "segments": SegmentsConfig(),
    "sparse": SegmentsConfig(sparse=True),
    "linspace": LinspaceConfig(),
    "timed": TimedConfig(),
    "timed-short": TimedConfig(target_fps=15.0, compat_short_of_end=True),
}


@pytest.mark.parametrize("rule", RULES)
@given(
    st.integers(1, 300), st.sampled_from([0.0, 10.0, 25.0, 29.97, 60.0]), st.integers(1, 20), st.integers(1, 9),
    st.integers(0, 12),
)  # fmt: skip
def test_clips_stay_inside_their_video(
    rule: str, total: int, fps: float, num_frames: int, stride: int, num_clips: int
) -> None:
    sampler = build_sampler(RULES[rule], num_frames, stride)
    if not sampler.keeps(total):
        assert rule in ("dense", "linspace")
        return
    drawn = sampler.draw(total, fps, stream("samplers", total))
    spread = sampler.spread(total, fps, num_clips)
    assert drawn.shape == (num_frames,)
    assert spread.shape[1:] == (num_frames,)
    if num_clips and rule != "sparse":
        assert len(spread) == num_clips
    for indices in (drawn, spread):
        assert indices.dtype == np.int64
        assert indices.min() >= 0
        assert indices.max() < total
    assert np.array_equal(spread, sampler.spread(total, fps, num_clips))
    if rule not in ("segments", "sparse"):  # which go round a short video
        assert (np.diff(spread, axis=1) >= 0).all()
        assert (np.diff(spread[:, 0]) >= 0).all()


def test_without_a_number_of_clips_dense_tests_take_all_windows() -> None:
    sampler = build_sampler(DenseConfig(), 8, 2)
    assert np.array_equal(sampler.spread(100, 25.0, 0), dense.test_windows(100, 8, 2))
    assert np.array_equal(sampler.spread(10, 25.0, 3), dense.test_windows(10, 8, 2).repeat(3, axis=0))
    assert len(build_sampler(SegmentsConfig(), 8, 2).spread(100, 25.0, 0)) == 1


def test_a_timed_clip_lasts_as_long_at_any_rate() -> None:
    sampler = build_sampler(TimedConfig(), 16, 4)
    seconds = [(clip[-1] - clip[0]) / fps for fps in (15.0, 30.0, 60.0) for clip in sampler.spread(1000, fps, 3)]
    assert max(seconds) - min(seconds) <= 2 / 15
    first, last = build_sampler(TimedConfig(), 4, 1).spread(100, 30.0, 10)[[0, -1]]
    assert first[0] == 0
    assert last[-1] >= 90


@pytest.mark.parametrize(("height", "width"), [(24, 40), (40, 24), (30, 30)])
def test_thirty_views_are_ten_clips_in_three_crops(height: int, width: int) -> None:
    """Crop by crop, each square where it belongs, and nothing is left to chance."""
    config = TestViewConfig(centre_crop=0, num_clips=10, num_crops=3)
    clips = VideoClips(200, 25.0, build_sampler(SegmentsConfig(), 4, 8))
    views = TestView(config, min(height, width)).draw(lambda purpose: stream(0, purpose), clips)
    again = TestView(config, min(height, width)).draw(lambda purpose: stream(1, purpose), clips)
    assert len(views) == 30
    frames = torch.randint(0, 256, (4, height, width, 3), dtype=torch.uint8)
    long, short = max(height, width), min(height, width)
    for number, (view, other) in enumerate(zip(views, again)):
        assert np.array_equal(view.indices, views[number % 10].indices)
        assert np.array_equal(view.indices, other.indices)
        begin = (0, (long - short) // 2, long - short)[number // 10]
        square = frames[:, begin : begin + short] if height > width else frames[:, :, begin : begin + short]
        assert torch.equal(finished(view, frames, 0), square.permute(3, 0, 1, 2))


def test_rules_are_chosen_by_name_and_stay_out_of_old_identities() -> None:
    dataset = {"name": "tiny", "path": "/videos"}
    plain = build(ClipsConfig, {"dataset": dataset})
    assert plain.sampling == DenseConfig()
    assert not {"sampling", "decode_short_side"} & set(semantic(plain))
    timed = build(ClipsConfig, {"dataset": dataset, "sampling": {"name": "timed", "target_fps": 15}})
    assert semantic(timed)["sampling"] == {"name": "timed", "target_fps": 15.0, "compat_short_of_end": False}
    assert set(semantic(TestViewConfig())) == {"centre_crop", "compat_jitter"}
    with pytest.raises(ConfigError, match="accepted: dense, linspace, long, segments, timed"):
        build(ClipsConfig, {"dataset": dataset, "sampling": {"name": "random"}})
