"""Pictures of a run, as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_SIZE = (6.4, 3.6)  # inches


def loss_curve(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss and learning rate over training steps.

    Args:
        rows: of the journal, {step, values}.
        path: PNG file to write.
    """
    figure = Figure(figsize=_SIZE, layout="constrained")
    losses = figure.subplots()
    steps = [row["step"] for row in rows]
    losses.plot(steps, [row["values"]["loss"] for row in rows], color="tab:blue")
    losses.set_xlabel("step")
    losses.set_ylabel("loss", color="tab:blue")
    rates = losses.twinx()
    rates.plot(steps, [row["values"]["lr"] for row in rows], color="tab:grey", linewidth=0.8)
    rates.set_ylabel("learning rate", color="tab:grey")
    figure.savefig(path, dpi=110)


def assignment_histogram(counts: Sequence[float], path: Path) -> None:
    """How the views are spread over the prototypes, most used first; a collapse is a single bar.

    Args:
        counts: per prototype, in any unit.
        path: PNG file to write.
    """
    total = sum(counts) or 1
    figure = Figure(figsize=_SIZE, layout="constrained")
    bars = figure.subplots()
    bars.bar(range(len(counts)), [100 * count / total for count in sorted(counts, reverse=True)], width=1.0)
    bars.axhline(100 / max(len(counts), 1), color="tab:grey", linewidth=0.8, linestyle="--", label="uniform")
    bars.set_xlabel(f"{len(counts)} prototypes, most used first")
    bars.set_ylabel("share of views, %")
    bars.legend(frameon=False)
    figure.savefig(path, dpi=110)
