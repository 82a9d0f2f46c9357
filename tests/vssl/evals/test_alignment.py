"""Frame-wise measures against the original's numbers, slow twins and closed forms (card, section 13, 13 and 16)."""

import itertools
import re
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.goldens import golden
from vssl.evals.alignment import (
    chance_of_label,
    chance_phase_error,
    frame_retrieval,
    kendalls_tau,
    phase_error,
    warp_phase_error,
)
from vssl.evals.dtw import align, dtw
from vssl.evals.frame_probes import (
    Videos,
    element_accuracy,
    first_videos,
    phase_accuracy,
    progression,
    progression_r2,
)

ARRAYS = golden("metrics", "carl")
DTW = golden("dtw", "carl")
CASES = [key.removesuffix("_warp") for key in DTW if key.endswith("_warp") and int(DTW[key]) == 1]


def split(name: str) -> Videos:
    borders = np.cumsum(ARRAYS[f"{name}_lens"])[:-1]
    return np.split(ARRAYS[f"{name}_embs"], borders), np.split(ARRAYS[f"{name}_labels"], borders)


TRAIN, VAL = split("train"), split("val")
FRACTIONS = [float(key[4:].partition("_")[0]) for key in ARRAYS if key.startswith("frac")]


@pytest.mark.parametrize("key", [key for key in ARRAYS if re.match(r"(tau|ap\d+)_", key)])
def test_point_13_tau_and_retrieval_golden(key: str) -> None:
    what, name, stride, metric = re.fullmatch(r"(tau|ap\d+)_(train|val)_stride(\d+)_(\w+)", key).groups()  # type: ignore[union-attr]
    embeddings, labels = {"train": TRAIN, "val": VAL}[name]
    if what == "tau":
        found = kendalls_tau(embeddings, stride=int(stride), metric=metric)
    else:
        k = int(what[2:])
        found = frame_retrieval(embeddings, labels, [k], stride=int(stride), metric=metric)[k]
    assert found == pytest.approx(float(ARRAYS[key]), abs=1e-9)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_point_13_probes_golden(fraction: float) -> None:
    assert first_videos(len(TRAIN[0]), fraction) == int(ARRAYS[f"frac{fraction}_nvid"])
    for name, found in zip(("train", "val"), phase_accuracy(TRAIN, VAL, fraction)):
        frames = sum(map(len, (TRAIN if name == "train" else VAL)[0]))
        if name == "train":
            frames = sum(map(len, TRAIN[0][: first_videos(len(TRAIN[0]), fraction)]))
        assert abs(found - float(ARRAYS[f"linear_{name}_acc_{fraction}"])) <= 1.01 / frames
    scores = progression_r2(TRAIN, VAL, fraction, int(ARRAYS["num_classes"]))
    for name, score in zip(("train", "val"), scores):
        assert score == pytest.approx(float(ARRAYS[f"progress_{name}_r2_{fraction}"]), abs=1e-6)


def test_point_13_progression_targets_golden() -> None:
    found = np.concatenate([progression(labels, int(ARRAYS["num_classes"])) for labels in VAL[1]])
    np.testing.assert_allclose(found, ARRAYS["progress_targets_val"], atol=1e-12)
    with pytest.raises(ValueError, match="no frame of phase 1"):
        progression(np.array([0, 0, 2, 2]), 3)


def test_point_13_tau_of_one_order_is_one_and_of_none_about_zero() -> None:
    line = np.linspace(0, 1, 40)[:, None]
    assert kendalls_tau([line, line, line[::1] + 1e-9], stride=1) == 1
    assert kendalls_tau([line, line[::-1].copy() + 3], stride=1) != kendalls_tau([line, line], stride=1)
    rng = np.random.default_rng(0)
    assert abs(kendalls_tau([rng.normal(size=(60, 8)) for _ in range(6)], stride=1)) < 0.1
    assert np.isnan(kendalls_tau([line], stride=1))


def test_retrieval_equals_its_slow_twin() -> None:
    rng = np.random.default_rng(1)
    videos = [rng.normal(size=(n, 3)) for n in (7, 5, 9)]
    labels = [rng.integers(0, 3, len(video)) for video in videos]
    rates = []
    for i, video in enumerate(videos):
        others = [(frame, label) for j, o in enumerate(videos) if j != i for frame, label in zip(o, labels[j])]
        hits = []
        for frame, label in zip(video, labels[i]):
            near = sorted(others, key=lambda other: float(((other[0] - frame) ** 2).sum()))[:4]
            hits.append(np.mean([other == label for _, other in near]))
        rates.append(np.mean(hits))
    assert frame_retrieval(videos, labels, [4], stride=1)[4] == pytest.approx(np.mean(rates))


@pytest.mark.parametrize("case", CASES)
def test_point_16_warping_golden(case: str) -> None:
    x, y = DTW[f"{case}_x"], DTW[f"{case}_y"]
    cost = ((x[:, None] - y[None]) ** 2).sum(axis=2)
    distance, accumulated, path = dtw(cost)
    assert distance == pytest.approx(float(DTW[f"{case}_dist"]), abs=1e-9)
    np.testing.assert_allclose(accumulated, DTW[f"{case}_acc"], atol=1e-9)
    assert np.array_equal(path.T, [DTW[f"{case}_path0"], DTW[f"{case}_path1"]])
    assert np.array_equal(align(x, y), DTW[f"{case}_align_dtw"])


@pytest.mark.parametrize("case", [key.removesuffix("_align_nn") for key in DTW if key.endswith("_align_nn")])
def test_nearest_frames_golden(case: str) -> None:
    assert np.array_equal(align(DTW[f"{case}_x"], DTW[f"{case}_y"], warp=False), DTW[f"{case}_align_nn"])


def test_point_16_warping_golden_of_one_dimension() -> None:
    distance, _, path = dtw(np.abs(DTW["doc_x"][:, None] - DTW["doc_y"][None]))
    assert distance == float(DTW["doc_dist"])
    assert np.array_equal(path.T, [DTW["doc_path0"], DTW["doc_path1"]])


def cheapest(cost: NDArray[np.float64], i: int, j: int) -> float:
    """Slow twin: all ways to a cell."""
    if (i, j) == (0, 0):
        return float(cost[0, 0])
    before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
    return float(cost[i, j]) + min(cheapest(cost, a, b) for a, b in before if a >= 0 and b >= 0)


def test_point_16_the_way_is_monotone_and_as_cheap_as_any() -> None:
    rng = np.random.default_rng(2)
    for rows, columns in itertools.product((1, 2, 5), (1, 3, 6)):
        cost = rng.random((rows, columns))
        distance, _, path = dtw(cost)
        assert distance == pytest.approx(cheapest(cost, rows - 1, columns - 1))
        assert distance == pytest.approx(cost[tuple(path.T)].sum())
        assert path[0].tolist() == [0, 0]
        assert path[-1].tolist() == [rows - 1, columns - 1]
        assert set(map(tuple, np.diff(path, axis=0).tolist())) <= {(0, 1), (1, 0), (1, 1)}
        warp = align(rng.random((rows, 2)), rng.random((columns, 2)))
        assert len(warp) == rows
        assert (np.diff(warp) >= 0).all()
    with pytest.raises(ValueError, match="empty"):
        dtw(np.zeros((0, 3)))


def test_phase_error_and_its_chance() -> None:
    query, key = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1, 1])
    assert phase_error(query, key, np.array([0, 0, 1, 4])) == 0
    assert phase_error(query, key, np.array([1, 0, 0, 4])) == 0.5
    assert chance_phase_error(query, key) == pytest.approx(0.5)
    assert chance_of_label([query]) == 0.5


def test_warps_of_one_process_lay_its_phases_over_one_another() -> None:
    """Three videos of three phases at their own pace; a warp by embeddings that tell no frames apart is worse."""
    labels = [np.array(one) for one in ([0, 0, 1, 1, 2], [0, 1, 1, 1, 2, 2], [0, 0, 0, 1, 2])]
    pairs = list(itertools.permutations(range(3), 2))
    error, chance = warp_phase_error([np.eye(3)[one] for one in labels], labels, stride=1)
    assert error == 0
    assert chance == pytest.approx(np.mean([(labels[i][:, None] != labels[j]).mean() for i, j in pairs]))
    blind = [np.zeros((len(one), 1)) for one in labels]
    expected = np.mean([(labels[i] != labels[j][align(blind[i], blind[j])]).mean() for i, j in pairs])
    assert warp_phase_error(blind, labels, stride=1)[0] == pytest.approx(expected)
    assert expected > 0.1
    every = [one[::2] for one in labels]
    assert warp_phase_error(blind, labels, stride=2) == warp_phase_error([one[::2] for one in blind], every, stride=1)
    assert np.isnan(warp_phase_error(blind[:1], labels[:1], stride=1)).all()


def test_element_probe_learns_what_is_linear_and_repeats_itself() -> None:
    rng = np.random.default_rng(3)

    def videos(count: int) -> Videos:
        labels = [rng.integers(0, 4, 30) for _ in range(count)]
        return [np.eye(6)[one] + 0.05 * rng.normal(size=(30, 6)) for one in labels], labels

    train, test = videos(12), videos(3)
    arguments = {"num_classes": 4, "lr": 5.0, "epochs": 20, "batch_size": 4, "seed": 1}
    found = element_accuracy(train, test, 1.0, **arguments)
    assert found[1] > 0.95
    assert found == element_accuracy(train, test, 1.0, **arguments)
    assert element_accuracy(train, test, 0.01, **arguments)[1] > 0.5  # a batch at least


def test_element_probes_rate_golden(monkeypatch: pytest.MonkeyPatch) -> None:
    """In force at each step of a training that has one step an epoch."""
    expected, found = golden("lr_schedules", "carl")["finegym_probe"], []
    step = torch.optim.SGD.step

    def watched(self: torch.optim.SGD, *arguments: Any) -> Any:
        found.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    one = ([np.eye(2)], [np.array([0, 1])])
    element_accuracy(one, one, 1.0, num_classes=2, lr=expected[0], epochs=len(expected), batch_size=1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_one_phase_alone_is_said_of_all_frames() -> None:
    one = ([np.zeros((3, 2))], [np.array([1, 1, 1])])
    other = ([np.zeros((4, 2))], [np.array([1, 0, 1, 1])])
    assert phase_accuracy(one, other, 1.0) == (1.0, 0.75)
