"""Pictures that stages leave as artifacts. Each function writes one PNG and returns the figure that it drew.

Figures are made without a display and without pyplot's global state, and the files carry no time stamp or version, so
equal numbers give equal bytes.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vssl.artifacts import write_atomic

INK, ACCENT, QUIET = "#22313f", "#1f6fb2", "#9aa5b1"


def loss_curve(rows: Sequence[Mapping[str, Any]], path: Path, *, chance: float | None = None) -> Figure:
    """Loss of every logged step, with its running mean.

    Args:
        rows: of a journal; those without a `loss` are left out.
        path: of the PNG.
        chance: loss of a model that has learned nothing, drawn as a level; ln C for C prototypes or classes.
    """
    points = [(row["step"], row["values"]["loss"]) for row in rows if "loss" in row["values"]]
    steps = np.array([step for step, _ in points], dtype=float)
    losses = np.array([loss for _, loss in points], dtype=float)
    figure, axes = _canvas("step", "loss")
    axes.plot(steps, losses, color=QUIET, linewidth=0.8, label="each step")
    axes.plot(steps, running_mean(losses), color=ACCENT, linewidth=1.8, label="running mean")
    if chance is not None:
        axes.axhline(chance, color=INK, linewidth=1.0, linestyle="--", label=f"chance, {chance:.3f}")
    axes.legend(frameon=False, fontsize=8)
    return save(figure, path)


def assignment_histogram(counts: Sequence[float], path: Path) -> Figure:
    """How many samples each prototype got, the most used first; a few tall bars are a collapse.

    Args:
        counts: (C,) samples assigned to each prototype.
        path: of the PNG.
    """
    ordered = np.sort(np.asarray(counts, dtype=float))[::-1]
    used = int((ordered > 0).sum())
    figure, axes = _canvas("prototype, most used first", "samples")
    axes.bar(np.arange(len(ordered)), ordered, width=1.0, color=ACCENT)
    axes.axhline(ordered.mean(), color=INK, linewidth=1.0, linestyle="--", label=f"even share, {ordered.mean():.1f}")
    axes.set_title(f"{used} of {len(ordered)} prototypes used", fontsize=10, color=INK)
    axes.legend(frameon=False, fontsize=8)
    return save(figure, path)


def usage_curve(rows: Sequence[Mapping[str, Any]], path: Path, *, prototypes: int) -> Figure:
    """How many prototypes were in use in each epoch, by `effective_prototypes` of the last row of each.

    Args:
        rows: of a journal; those without that value are left out.
        path: of the PNG.
        prototypes: how many there are, the highest that it can be.
    """
    points = [
        (row["values"]["epoch"] + 1, row["values"]["effective_prototypes"])
        for row in rows
        if "effective_prototypes" in row["values"]
    ]
    figure, axes = _canvas("epoch", "effective number of prototypes")
    axes.plot(*zip(*points) if points else ((), ()), color=ACCENT, linewidth=1.8, marker="o", markersize=3)
    axes.axhline(prototypes, color=INK, linewidth=1.0, linestyle="--", label=f"all {prototypes} alike")
    axes.axhline(1, color=QUIET, linewidth=1.0, linestyle=":", label="a single one: a collapse")
    axes.set_ylim(0, 1.05 * prototypes)
    axes.legend(frameon=False, fontsize=8)
    return save(figure, path)


def confusion(labels: Sequence[int], predictions: Sequence[int], classes: Sequence[str], path: Path) -> Figure:
    """Share of each true class (row) that was taken for each class (column).

    Args:
        labels: (N,) true classes.
        predictions: (N,) predicted classes.
        classes: names; up to 30 of them are written at the axes.
        path: of the PNG.
    """
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (np.asarray(labels, dtype=int), np.asarray(predictions, dtype=int)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _canvas("predicted", "true")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 30:
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
        axes.set_yticks(range(len(classes)), classes, fontsize=7)
    return save(figure, path)


def running_mean(values: np.ndarray) -> np.ndarray:
    """Mean of a growing window that ends at each value, at most a twentieth of all values and at least 5 long."""
    window = max(5, len(values) // 20)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    means: np.ndarray = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def empty_figure(*, width: float = 6.4, height: float = 4.0) -> Figure:
    """A figure of so many inches, without a display."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> Figure:
    """Write a figure as PNG, whole or not at all, and give it back."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    write_atomic(path, lambda stream: _write(stream, drawn.getvalue()))
    return figure


def _canvas(x: str, y: str) -> tuple[Figure, Axes]:
    figure = empty_figure()
    axes = figure.add_subplot()
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    return figure, axes


def _write(stream: Any, data: bytes) -> None:
    stream.write(data)
