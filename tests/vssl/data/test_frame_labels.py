"""Labels of frames, against the numbers of CARL's code and slow twins."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.goldens import golden
from vssl.data.layouts.frame_labels import UNLABELLED, element_labels, merge_annotators, phase_labels


def test_merged_phases_equal_the_originals() -> None:
    numbers = golden("labels_and_chunks", "carl")
    merged = merge_annotators(numbers["annot_us"] / 1e6)
    assert np.abs(merged - numbers["merged_s"]).max() < 1e-12
    assert np.array_equal(phase_labels(numbers["timestamps"], merged), numbers["labels"])


def test_element_labels_equal_the_originals() -> None:
    numbers = golden("labels_and_chunks", "carl")
    labels = element_labels(numbers["fg_segments"], int(numbers["fg_num_frames"]), float(numbers["fg_fps"]))
    assert np.array_equal(labels, numbers["fg_labels"])


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 999))
def test_merged_phases_follow_one_another_without_gaps(annotators: int, phases: int, seed: int) -> None:
    edges = np.sort(np.random.default_rng(seed).uniform(0, 9, (annotators, phases, 2)), axis=2)
    merged = merge_annotators(edges)
    assert merged.shape == (phases, 2)
    assert np.array_equal(merged[1:, 0], merged[:-1, 1])
    mean = edges.mean(axis=0)
    assert merged[0, 0] == mean[:, 0].min()


@given(st.integers(1, 5), st.integers(1, 80), st.integers(0, 999))
def test_phase_labels_equal_their_slow_twin(count: int, frames: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    phases = np.sort(rng.uniform(0, 4, (count, 2)), axis=1)
    phases = phases[np.argsort(phases[:, 0])]
    times = np.sort(rng.uniform(-1, 5, frames))
    labels = phase_labels(times, phases)
    for time, label in zip(times, labels):
        holding = [k for k, (start, end) in enumerate(phases) if start <= time < end]
        assert label == (holding[0] if holding else 0 if time < phases[0, 0] else count - 1)


@given(st.integers(0, 5), st.integers(1, 120), st.sampled_from([10.0, 25.0, 29.97]), st.integers(0, 999))
def test_element_labels_equal_their_slow_twin(count: int, frames: int, fps: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.uniform(0, 6, (count, 2)), axis=1)
    segments = np.concatenate([edges, rng.integers(0, 99, (count, 1))], axis=1)
    expected = [UNLABELLED] * frames
    for start, end, label in segments:
        for frame in range(frames):
            if int(start * fps) <= frame <= int(end * fps):
                expected[frame] = int(label)
    assert element_labels(segments, frames, fps).tolist() == expected
