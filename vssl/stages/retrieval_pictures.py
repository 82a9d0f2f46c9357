"""What a retrieval's plots show: which videos, and how they look. Rank 0 only."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vssl.data.clips import ClipDataset
from vssl.data.decode import BrokenVideo
from vssl.evals.metrics import ranked
from vssl.evals.protocols import Described, centred
from vssl.plots_retrieval import Still, feature_space, neighbours
from vssl.run import Run
from vssl.stages.report import picture

SHOWN_QUERIES, SHOWN_NEIGHBOURS = 8, 5
_SHORT_SIDE = 96  # pixels of a frame in the picture


def draw_feature_space(run: Run, gallery: Described, query: Described, classes: Sequence[str], *, seed: int) -> None:
    """`feature_space.png`: gallery and queries, each centred by its own mean, as unit rows."""
    features = torch.cat([centred(gallery.vectors), centred(query.vectors)]).numpy()
    labels = torch.cat([gallery.labels, query.labels]).tolist()
    is_query = [False] * len(gallery.names) + [True] * len(query.names)
    picture(
        run,
        "feature_space.png",
        lambda path: feature_space(features, labels, is_query, classes, path, seed=seed),
    )


def draw_neighbours(run: Run, gallery: ClipDataset, query: ClipDataset, similarity: Tensor) -> None:
    """`neighbours.png`: queries of every class in turn, each with its nearest gallery videos.

    Args:
        run: the stage's execution.
        gallery: G videos.
        query: Q videos.
        similarity: (Q, G), larger is nearer.
    """

    def draw(path: Path) -> None:
        shown = in_turn(query.labels.tolist(), SHOWN_QUERIES)
        order = ranked(similarity[shown], SHOWN_NEIGHBOURS)
        near = similarity[shown].gather(1, order).tolist()
        rows = [
            (_still(query, row), [(_still(gallery, place), one) for place, one in zip(places, values)])
            for row, places, values in zip(shown, order.tolist(), near)
        ]
        neighbours(rows, path)

    picture(run, "neighbours.png", draw)


def in_turn(labels: Sequence[int], count: int) -> list[int]:
    """Up to `count` rows, by class: the first of every class, then the second, and so on; classes spread evenly."""
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    classes = sorted(rows)
    if len(classes) > count:
        classes = [classes[number * len(classes) // count] for number in range(count)]
    depth = max(map(len, rows.values()), default=0)
    picked = [rows[label][turn] for turn in range(depth) for label in classes if turn < len(rows[label])]
    return sorted(picked[:count], key=lambda row: (labels[row], row))


def _still(videos: ClipDataset, index: int) -> Still:
    label = videos.classes[int(videos.labels[index])]
    try:
        return Still(label=label, frame=videos.still(index, short_side=_SHORT_SIDE))
    except BrokenVideo:
        return Still(label=label, frame=None)
