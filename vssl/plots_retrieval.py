"""Pictures of a retrieval: where the videos lie in feature space, and what each query finds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from vssl.plots import INK, QUIET, empty_figure, save

MAX_VIDEOS = 1000  # t-SNE of as many takes some ten seconds, and a page holds no more points
_COLOURS = (
    "#1f6fb2",
    "#d95f02",
    "#2a9d5c",
    "#c2297f",
    "#7b5cc4",
    "#b58900",
    "#17a2b8",
    "#8c4a2f",
    "#5d6d7e",
    "#e4572e",
)
_MARKERS = "os^DvP*X<>"
_RIGHT, _WRONG = "#1a7f4b", "#b3261e"


@dataclass(frozen=True, kw_only=True)
class Still:
    """A video as the gallery shows it."""

    label: str  # name of its class
    frame: np.ndarray | None  # (H, W, 3) uint8; None where the file does not decode


def feature_space(
    features: np.ndarray,
    labels: Sequence[int],
    is_query: Sequence[bool],
    classes: Sequence[str],
    path: Path,
    *,
    seed: int,
) -> Figure:
    """Videos as points, by the two largest principal components and by t-SNE; classes by colour and shape.

    Of more than ten classes the ten largest have colours, and of more than MAX_VIDEOS videos every k-th is drawn.

    Args:
        features: (N, D).
        labels: (N,) class indices.
        is_query: (N,) true for queries, which get a dark edge; the others are the gallery.
        classes: names.
        path: of the PNG.
        seed: of t-SNE.
    """
    step = -(-len(features) // MAX_VIDEOS)
    points, kinds, queries = (np.asarray(a)[::step] for a in (features, labels, is_query))
    plane, share = principal_plane(points)
    figure = empty_figure(width=10.5, height=4.4)
    left, right = figure.subplots(1, 2)
    left.set_title(f"principal components, {share:.0%} of the variance", fontsize=10, color=INK)
    _scatter(left, plane, kinds, queries, classes)
    near = neighbourhood_plane(points, plane, seed)
    right.set_title("t-SNE" if near is not None else "too few different videos for t-SNE", fontsize=10, color=INK)
    if near is not None:
        _scatter(right, near, kinds, queries, classes)
    for axes in (left, right):
        axes.set_xticks([])
        axes.set_yticks([])
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    return save(figure, path)


def principal_plane(points: np.ndarray) -> tuple[np.ndarray, float]:
    """((N, 2) coordinates along the two largest principal components, their share of the variance).

    Zeros where there is no such component: of one video, or of features that are all equal.
    """
    plane = np.zeros((len(points), 2))
    if len(points) < 2 or not np.ptp(points, axis=0).any():
        return plane, 0.0
    pca = PCA(n_components=min(2, *points.shape), svd_solver="full")
    found = pca.fit_transform(points.astype(np.float64))
    plane[:, : found.shape[1]] = found
    return plane, float(pca.explained_variance_ratio_.sum())


def neighbourhood_plane(points: np.ndarray, plane: np.ndarray, seed: int) -> np.ndarray | None:
    """(N, 2) coordinates by t-SNE, begun at the principal plane; None of fewer than four different videos."""
    if len(np.unique(points, axis=0)) < 4 or not plane[:, 0].std():
        return None
    start = (plane / plane[:, 0].std() * 1e-4).astype(np.float32)
    embedding = TSNE(perplexity=min(30.0, (len(points) - 1) / 3), init=start, random_state=seed)
    with threadpool_limits(1):  # threads add up in an order of their own: two pictures of the same would differ
        found: np.ndarray = embedding.fit_transform(points.astype(np.float32))
    return found


def neighbours(rows: Sequence[tuple[Still, Sequence[tuple[Still, float]]]], path: Path) -> Figure:
    """Queries, each with its nearest gallery videos; right or wrong by sign, edge and colour.

    Args:
        rows: (query, its nearest videos with their similarities, the nearest first).
        path: of the PNG.
    """
    columns = 1 + max((len(found) for _, found in rows), default=0)
    figure = empty_figure(width=1.5 * columns, height=1.6 * max(len(rows), 1))
    grid = figure.subplots(max(len(rows), 1), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, (query, found) in zip(grid, rows):
        _show(line[0], query, f"query: {_short(query.label, 12)}", INK, "solid")
        for axes, (video, similarity) in zip(line[1:], found):
            right = video.label == query.label
            text = f"{'✓' if right else '✗'} {_short(video.label)}  {similarity:.2f}"
            _show(axes, video, text, _RIGHT if right else _WRONG, "solid" if right else "dashed")
    return save(figure, path)


def _show(axes: Axes, video: Still, text: str, colour: str, edge: str) -> None:
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(text, fontsize=7, color=colour, pad=3)
    for spine in axes.spines.values():
        spine.set(visible=True, edgecolor=colour, linewidth=2.0, linestyle=edge)
    if video.frame is None:
        axes.text(0.5, 0.5, "does not decode", ha="center", va="center", fontsize=7, transform=axes.transAxes)
    else:
        axes.imshow(video.frame)


def _scatter(axes: Axes, plane: np.ndarray, labels: np.ndarray, is_query: np.ndarray, classes: Sequence[str]) -> None:
    """The points of each class, those of classes without a colour beneath the others."""
    largest = [label for label, _ in sorted(Counter(labels.tolist()).items(), key=lambda item: (-item[1], item[0]))]
    shown, others = sorted(largest[: len(_COLOURS)]), largest[len(_COLOURS) :]

    def scatter(which: np.ndarray, name: str | None, **style: Any) -> None:
        axes.scatter(plane[which, 0], plane[which, 1], label=name, **style)

    if others:
        name = f"{len(others)} more classes"
        scatter(np.isin(labels, others), name, s=8, facecolors=QUIET, alpha=0.4, linewidths=0)
    for label, colour, marker in zip(shown, _COLOURS, _MARKERS):
        style = {"facecolors": colour, "marker": marker, "alpha": 0.85}
        of_class = labels == label
        scatter(of_class & ~is_query, _short(classes[label], 24), s=22, linewidths=0, **style)
        scatter(of_class & is_query, None, s=36, edgecolors=INK, linewidths=0.9, **style)
    axes.scatter([], [], s=36, facecolors="white", edgecolors=INK, linewidths=0.9, label="dark edge: query")


def _short(text: str, length: int = 14) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
