"""A stage's figures: what the journal says of its training, its plots, and the metrics file of an evaluation."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from vssl.artifacts import write_json
from vssl.distributed import broadcast_object, is_main
from vssl.run import Run, read_journal


def training_figures(run: Run) -> dict[str, float]:
    """`loss_first` and `loss_last`, means over the first and the last epoch, and `<scalar>_last` of what was reported.

    In fp16 also `skipped_steps`, those of which a gradient overflowed.

    From the journal, so that a stage that was interrupted reports the same as one that was not. All ranks call.
    """
    figures: dict[str, float] = {}
    if is_main():
        rows = [row["values"] for row in read_journal(run.folder.journal)]
        first = [row for row in rows if row["epoch"] == rows[0]["epoch"]]
        last = [row for row in rows if row["epoch"] == rows[-1]["epoch"]]
        figures["loss_first"] = fmean(row["loss"] for row in first)
        scalars = [name for name in rows[-1] if "/" not in name and name not in ("epoch", "grad_norm", "lr", "skipped")]
        figures |= {f"{name}_last": fmean(row[name] for row in last if name in row) for name in scalars}
        if "skipped" in rows[-1]:
            figures["skipped_steps"] = sum(row["skipped"] for row in rows)
    shared: dict[str, float] = broadcast_object(figures)
    return shared


def plot(run: Run, name: str, draw: Callable[[list[dict[str, Any]], Path], Any]) -> None:
    """Draw the journal's rows into a file of the artifact `plots`. Rank 0 only."""
    picture(run, name, partial(draw, read_journal(run.folder.journal)))


def picture(run: Run, name: str, draw: Callable[[Path], Any]) -> None:
    """Draw a file of the artifact `plots`; what cannot be drawn costs no stage its result. Rank 0 only."""
    run.check_ownership()
    folder = run.artifact("plots")
    folder.mkdir(exist_ok=True)
    try:
        draw(folder / name)
    except Exception as error:  # of whatever kind: a plotting library's, a video's that was fine a minute ago
        run.say(f"the picture {name} could not be drawn ({type(error).__name__}: {error})")


def write_metrics(run: Run, metrics: Mapping[str, float]) -> None:
    """The artifact `metrics`; rank 0 writes."""
    if is_main():
        run.check_ownership()
        write_json(run.artifact("metrics"), dict(metrics))
