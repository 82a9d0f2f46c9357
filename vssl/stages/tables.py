"""Tables of videos as artifacts: one row per video with its id, its label and a vector."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vssl.artifacts import canonical_json, write_atomic, write_text
from vssl.evals.metrics import ranked
from vssl.evals.protocols import Described
from vssl.run import Run, StageError

_NEIGHBOURS = 10


def write_table(run: Run, artifact: str, name: str, videos: Described, *, vectors: str) -> None:
    """Write `<name>.parquet` into a tree artifact; columns video_id, label and `vectors`. Rank 0 only."""
    run.check_ownership()
    folder = run.artifact(artifact)
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame(
        {"video_id": videos.names, "label": videos.labels.tolist(), vectors: list(videos.vectors.numpy())}
    )
    write_atomic(folder / f"{name}.parquet", lambda stream: table.to_parquet(stream, index=False))


def write_probabilities(run: Run, name: str, videos: Described) -> None:
    """Write class probabilities as `<name>.parquet` and `<name>.json` into the artifact `predictions`. Rank 0 only.

    In the JSON file each video has a line with its `label` and, as in files of ViCC's public code, `mean_prob`.
    """
    write_table(run, "predictions", name, videos, vectors="probabilities")
    rows = {
        video: {"label": label, "mean_prob": [[round(one, 7) for one in probabilities]]}
        for video, label, probabilities in zip(videos.names, videos.labels.tolist(), videos.vectors.tolist())
    }
    _write_lines(run.artifact("predictions") / f"{name}.json", rows)


def write_neighbours(run: Run, artifact: str, query: Described, gallery: Described, similarity: Tensor) -> None:
    """Write each query's nearest gallery videos as `neighbours.parquet` and `neighbours.json`. Rank 0 only.

    Args:
        run: the stage's execution.
        artifact: the tree to write into.
        query: Q videos.
        gallery: G videos.
        similarity: (Q, G), larger is nearer.
    """
    run.check_ownership()
    folder = run.artifact(artifact)
    folder.mkdir(exist_ok=True)
    order = ranked(similarity, _NEIGHBOURS)
    rows = {
        video: {
            "label": label,
            "neighbours": [gallery.names[place] for place in places],
            "neighbour_labels": gallery.labels[places].tolist(),
            "similarities": [round(one, 6) for one in near],
        }
        for video, label, places, near in zip(
            query.names, query.labels.tolist(), order.tolist(), similarity.gather(1, order).tolist()
        )
    }
    _write_lines(folder / "neighbours.json", rows)
    table = pd.DataFrame([{"video_id": video, **row} for video, row in rows.items()])
    write_atomic(folder / "neighbours.parquet", lambda stream: table.to_parquet(stream, index=False))


def _write_lines(path: Path, rows: Mapping[str, Any]) -> None:
    """A JSON object with one line per key."""
    lines = [f"{json.dumps(key, ensure_ascii=False)}: {canonical_json(row)}" for key, row in rows.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_table(folder: Path, name: str, *, vectors: str) -> Described:
    """What `write_table` wrote.

    Raises:
        StageError: the tree has no such table.
    """
    path = folder / f"{name}.parquet"
    if not path.is_file():
        raise StageError(f"{folder} has no {path.name}; bind the artifact of a stage that makes {vectors}")
    table = pd.read_parquet(path)
    return Described(
        names=table["video_id"].tolist(),
        labels=torch.tensor(table["label"].to_numpy()),
        vectors=torch.from_numpy(np.array(table[vectors].tolist(), dtype=np.float32)),
    )
