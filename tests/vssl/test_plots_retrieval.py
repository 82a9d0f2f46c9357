"""Pictures of retrievals: of any number of videos and classes, the same each time, right and wrong without colours."""

from pathlib import Path

import numpy as np
import pytest

from vssl.plots_retrieval import Still, feature_space, neighbourhood_plane, neighbours, principal_plane
from vssl.stages.retrieval_pictures import in_turn

RNG = np.random.default_rng(0)


def clusters(count: int, classes: int, dim: int = 6) -> tuple[np.ndarray, list[int]]:
    labels = [number % classes for number in range(count)]
    return RNG.normal(size=(count, dim)) * 0.1 + np.eye(max(dim, classes))[labels][:, :dim], labels


def test_the_principal_plane_is_that_of_the_covariance() -> None:
    points, _ = clusters(40, 3)
    plane, share = principal_plane(points)
    values, vectors = np.linalg.eigh(np.cov(points.T))
    assert share == pytest.approx(values[-2:].sum() / values.sum())
    expected = (points - points.mean(axis=0)) @ vectors[:, [-1, -2]]
    assert np.allclose(np.abs(plane), np.abs(expected))


def test_tsne_keeps_clusters_apart_and_repeats_itself() -> None:
    points, labels = clusters(45, 3)
    plane, _ = principal_plane(points)
    found, again = (neighbourhood_plane(points, plane, 0) for _ in range(2))
    assert found is not None
    assert np.array_equal(found, again)
    distances = np.linalg.norm(found[:, None] - found[None], axis=-1) + 1e9 * np.eye(len(found))
    assert all(labels[one] == labels[nearest] for one, nearest in enumerate(distances.argmin(axis=1)))


@pytest.mark.parametrize(("count", "classes"), [(1, 1), (2, 1), (3, 3), (5, 1), (40, 2)])
def test_few_videos_or_one_class_still_make_a_picture(count: int, classes: int, tmp_path: Path) -> None:
    points, labels = clusters(count, classes)
    queries = [number % 3 == 0 for number in range(count)]
    names = [f"class {number}" for number in range(classes)]
    figure = feature_space(points, labels, queries, names, tmp_path / "a.png", seed=0)
    drawn = sum(len(np.asarray(dots.get_offsets())) for dots in figure.axes[0].collections)
    assert drawn == count
    assert (figure.axes[1].get_title() == "t-SNE") == (count > 3)
    first = (tmp_path / "a.png").read_bytes()
    feature_space(points, labels, queries, names, tmp_path / "a.png", seed=0)
    assert (tmp_path / "a.png").read_bytes() == first


def test_features_that_are_all_equal_still_make_a_picture(tmp_path: Path) -> None:
    figure = feature_space(np.ones((6, 4)), [0] * 6, [False] * 6, ["one"], tmp_path / "a.png", seed=0)
    assert figure.axes[1].get_title() == "too few different videos for t-SNE"


def test_of_many_classes_the_largest_have_colours(tmp_path: Path) -> None:
    labels = [*range(12), *range(2, 12)]  # 0 and 1 occur once
    points = np.zeros((len(labels), 3))
    names = [f"class {number}" for number in range(12)]
    figure = feature_space(points, labels, [False] * len(labels), names, tmp_path / "a.png", seed=0)
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == ["2 more classes", *names[2:], "dark edge: query"]


def test_right_and_wrong_differ_by_more_than_colour(tmp_path: Path) -> None:
    frame = np.zeros((8, 10, 3), dtype=np.uint8)
    jump, run, broken = (Still(label=n, frame=f) for n, f in (("jump", frame), ("run", frame), ("run", None)))
    figure = neighbours([(jump, [(jump, 0.9), (run, 0.5)]), (run, [(broken, 0.25)])], tmp_path / "a.png")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["query: jump", "✓ jump  0.90", "✗ run  0.50", "query: run", "✓ run  0.25", ""]
    edges = [axes.spines["left"].get_linestyle() for axes in figure.axes[:3]]
    assert edges == ["solid", "solid", "dashed"]
    assert [text.get_text() for text in figure.axes[4].texts] == ["does not decode"]
    neighbours([], tmp_path / "none.png")


@pytest.mark.parametrize(
    ("labels", "count", "rows"),
    [
        ([0, 0, 0, 1, 1], 3, [0, 1, 3]),
        ([1, 0, 1], 8, [1, 0, 2]),
        ([0, 1, 2, 3, 4, 5], 3, [0, 2, 4]),
        ([0, 0], 1, [0]),
    ],
)
def test_queries_are_shown_by_class_in_turn(labels: list[int], count: int, rows: list[int]) -> None:
    assert in_turn(labels, count) == rows
