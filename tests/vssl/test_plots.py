"""Pictures: the numbers that were given are the numbers that are drawn, and equal numbers give equal files."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from vssl.plots import assignment_histogram, confusion, loss_curve, running_mean, usage_curve

PNG = b"\x89PNG\r\n\x1a\n"
ROWS = [{"step": step, "values": {"loss": 3.0 / (step + 1)}} for step in range(40)] + [
    {"step": 40, "values": {"lr": 1}}
]


def test_the_loss_curve_draws_every_loss_and_the_level_of_chance(tmp_path: Path) -> None:
    figure = loss_curve(ROWS, tmp_path / "loss.png", chance=math.log(300))
    each, mean, level = figure.axes[0].get_lines()
    assert np.array_equal(np.asarray(each.get_xdata()), np.arange(40))
    assert np.array_equal(np.asarray(each.get_ydata()), 3.0 / (np.arange(40) + 1))
    assert np.allclose(np.asarray(mean.get_ydata())[:2], [3.0, (3.0 + 1.5) / 2])
    assert np.allclose(np.asarray(level.get_ydata()), math.log(300))


def test_a_stage_without_a_loss_still_gets_its_picture(tmp_path: Path) -> None:
    loss_curve([], tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(PNG)


def test_the_running_mean_equals_a_loop() -> None:
    values = np.random.default_rng(0).normal(size=200)
    slow = [values[max(0, i - 9) : i + 1].mean() for i in range(200)]
    assert np.allclose(running_mean(values), slow)


def test_the_histogram_is_ordered_and_counts_the_used_prototypes(tmp_path: Path) -> None:
    figure = assignment_histogram([0, 5, 1, 0, 9], tmp_path / "assignments.png")
    axes = figure.axes[0]
    assert [bar.get_height() for bar in axes.patches] == [9, 5, 1, 0, 0]  # type: ignore[attr-defined]
    assert axes.get_title() == "3 of 5 prototypes used"


def test_the_usage_curve_has_a_point_per_epoch(tmp_path: Path) -> None:
    rows = [{"step": step, "values": {"epoch": step // 2}} for step in range(4)]
    rows[1]["values"]["effective_prototypes"], rows[3]["values"]["effective_prototypes"] = 2.5, 6.0
    used, every, single = usage_curve(rows, tmp_path / "prototypes.png", prototypes=8).axes[0].get_lines()
    assert np.array_equal(np.asarray(used.get_xydata()), [[1, 2.5], [2, 6.0]])
    assert set(np.asarray(every.get_ydata())) == {8}
    assert set(np.asarray(single.get_ydata())) == {1}
    usage_curve([], tmp_path / "prototypes.png", prototypes=8)


def test_the_confusion_matrix_has_shares_of_the_true_class_in_its_rows(tmp_path: Path) -> None:
    figure = confusion([0, 0, 0, 1], [0, 0, 1, 1], ["left", "right", "unseen"], tmp_path / "confusion.png")
    drawn = np.asarray(figure.axes[0].get_images()[0].get_array())
    assert np.allclose(drawn, [[2 / 3, 1 / 3, 0], [0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: loss_curve(ROWS, path, chance=1.0),
        lambda path: assignment_histogram([3, 1, 2], path),
        lambda path: usage_curve([{"values": {"epoch": 0, "effective_prototypes": 2.0}}], path, prototypes=3),
        lambda path: confusion([0, 1], [1, 1], ["a", "b"], path),
    ],
)
def test_equal_numbers_give_equal_bytes(draw: Callable[[Path], Figure], tmp_path: Path) -> None:
    draw(tmp_path / "one.png")
    draw(tmp_path / "two.png")
    first = (tmp_path / "one.png").read_bytes()
    assert first.startswith(PNG)
    assert first == (tmp_path / "two.png").read_bytes()
    assert b"matplotlib" not in first
    assert b"tEXt" not in first
