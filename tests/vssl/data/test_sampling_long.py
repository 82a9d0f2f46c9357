"""Views of long sequences and their chunks, against the numbers of CARL's code and closed forms."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.goldens import golden
from vssl.data.sampling.long import (
    BlockBase,
    LongView,
    block_length,
    chunks,
    draw_positives,
    draw_uniform_view,
    draw_views,
    offset_bounds,
    stretched_view,
    uniform_view,
    with_positives,
)
from vssl.randomness import stream

NUMBERS = golden("samplers", "carl")
CASES = json.loads(str(NUMBERS["cases_json"]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['case']}-{case['dataset']}")
def test_point_05_views_equal_the_originals_for_the_same_draws(case: dict[str, object]) -> None:
    total, num_frames = int(case["seq_len"]), int(case["num_frames"])
    base: BlockBase = "min" if case["dataset"] == "finegym" else "full"
    first = None
    views = [view for view in ("v0", "v1") if f"{case['case']}_{view}_steps" in NUMBERS]
    assert views
    for view in views:
        drawn = {key.split("_", 2)[2]: NUMBERS[key] for key in NUMBERS if key.startswith(f"{case['case']}_{view}_")}
        if case["strategy"] == "time_augment":
            block = block_length(total, num_frames, float(drawn.get("expand_ratio", 1.0)), base)
            assert block == len(drawn["perm"])
            bounds = offset_bounds(total, num_frames, block, float(case["consistent_offset"]), first)
            assert bounds == (drawn["offset_low"], drawn["offset_high"])
            found = stretched_view(total, num_frames, int(drawn["offset"]), drawn["perm"])
        else:
            found = uniform_view(total, num_frames, drawn.get("perm", np.arange(total)))
            if "tcn_delta" in drawn:
                found = with_positives(found, drawn["tcn_delta"])
        assert np.array_equal(found.frames, drawn["chosen"])
        assert np.array_equal(found.mask, drawn["mask"])
        with_context = found.with_context(int(case["num_contexts"]), int(case["context_stride"]))
        assert np.array_equal(with_context, drawn["steps"])
        first = int(drawn["steps"].min())


def test_chunks_equal_the_originals() -> None:
    rows = golden("labels_and_chunks", "carl")["eval_chunks"]
    assert len(rows)
    for total, at_most, number, start, length in rows.tolist():
        chunk = chunks(total, at_most)[number]
        assert (chunk.start, len(chunk)) == (start, length)


@given(st.integers(1, 3000), st.integers(1, 1200))
def test_chunks_cover_every_frame_once(total: int, at_most: int) -> None:
    found = chunks(total, at_most)
    assert [frame for chunk in found for frame in chunk] == list(range(total))
    assert max(map(len, found)) <= at_most
    assert len({len(chunk) for chunk in found[:-1]}) <= 1
    assert len(found) == 1 if total <= at_most else len(found) > 1


@given(
    st.integers(1, 700), st.integers(1, 120), st.floats(1, 2), st.floats(0, 1), st.sampled_from(["full", "min"]),
    st.integers(0, 99),
)  # fmt: skip
def test_drawn_views_are_distinct_frames_in_order(
    total: int, num_frames: int, max_rate: float, min_overlap: float, base: BlockBase, seed: int
) -> None:
    views = draw_views(total, num_frames, stream("long", seed), max_rate=max_rate, min_overlap=min_overlap, base=base)
    assert len(views) == 2
    for view in views:
        assert view.steps.shape == view.frames.shape == view.mask.shape == (num_frames,)
        shown = view.frames[view.mask]
        assert (np.diff(shown) > 0).all()
        assert ((view.frames >= 0) & (view.frames < total)).all()
        assert view.mask[: len(shown)].all()  # nothing is shown after a masked slot
        assert len(shown) <= min(total, num_frames)
        assert (view.frames[~view.mask] == total - 1).all()


@given(st.integers(1, 700), st.integers(1, 120), st.integers(0, 99))
def test_point_06_without_crops_in_time_views_begin_with_the_video(total: int, num_frames: int, seed: int) -> None:
    """The original's setting everywhere but for FineGym: there is no room for an offset."""
    generator = stream("full", seed)
    for rate in (1.0, 1.25, 1.5):
        block = block_length(total, num_frames, rate, "full")
        assert offset_bounds(total, num_frames, block, 0.2, None) == (0, 1)
        assert offset_bounds(total, num_frames, block, 0.2, 17) == (0, 1)
    assert all(view.steps[0] < 1.5 * total for view in draw_views(total, num_frames, generator))


@given(st.integers(1, 1500), st.integers(1, 240), st.floats(0, 1), st.integers(0, 99))
def test_point_06_crops_in_time_begin_near_one_another(
    total: int, num_frames: int, min_overlap: float, seed: int
) -> None:
    length = min(total, num_frames)
    rng = np.random.default_rng(seed)
    first = int(rng.integers(0, total))
    block = block_length(total, num_frames, float(rng.uniform(1, 1.5)), "min")
    low, high = offset_bounds(total, num_frames, block, min_overlap, first)
    assert 0 <= low < high
    if min_overlap == 0:
        assert (low, high) == (0, max(total - block, 1))
        return
    shift = int((1 - min_overlap) * length)
    allowed = [o for o in range(total) if abs(o - first) <= shift and o <= total - block]
    if allowed:  # brute force: what is near enough and leaves room for the block
        assert (low, high) == (allowed[0], allowed[-1] + 1)


def test_about_as_many_slots_are_masked_as_in_the_original() -> None:
    """The block is 1 to 1.5 times the video and most of its slots beyond the end are lost: 65 of 80 stay on average."""
    shown = [view.mask.sum() for seed in range(300) for view in draw_views(600, 80, stream("loss", seed))]
    assert abs(np.mean(shown) - 65) < 1


def test_rates_and_slots_of_the_views_are_independent() -> None:
    one, other = draw_views(200, 40, stream("pair"))
    assert not np.array_equal(one.steps, other.steps)
    assert len(draw_views(200, 40, stream("three"), num_views=3)) == 3


@given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 99))
def test_uniform_views(total: int, num_frames: int, seed: int) -> None:
    view = draw_uniform_view(total, num_frames, stream("uniform", seed))
    assert view.mask.sum() == min(total, num_frames)
    assert (np.diff(view.frames[view.mask]) > 0).all()


def test_positives_come_up_to_five_frames_before_their_anchors() -> None:
    anchors = uniform_view(300, 150, np.arange(300))
    pairs = draw_positives(anchors, stream("positives"))
    assert np.array_equal(pairs.steps[::2], anchors.steps)
    assert set(np.unique(pairs.steps[::2] - pairs.steps[1::2])) == {1, 2, 3, 4, 5}
    assert not pairs.mask[1]  # nothing is before the first frame
    assert pairs.frames[1] == 0


def test_context_comes_before_its_frame_and_stays_in_the_video() -> None:
    view = LongView(np.array([0, 20, 40, 50]), 45)
    assert view.with_context(3, 15).tolist() == [0, 0, 0, 0, 5, 20, 10, 25, 40, 20, 35, 44]
    assert view.with_context(1, 15).tolist() == view.frames.tolist()


@given(st.integers(1, 500), st.integers(1, 100), st.floats(1, 2))
def test_a_block_is_as_long_as_its_rate_says(total: int, num_frames: int, rate: float) -> None:
    assert block_length(total, num_frames, rate, "full") == math.ceil(rate * total)
    assert block_length(total, num_frames, rate, "min") <= block_length(total, num_frames, rate, "full")
