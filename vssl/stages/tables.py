"""Tables of videos as artifacts: one row per video with its id, its label and a vector."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vssl.artifacts import write_atomic
from vssl.evals.protocols import Described
from vssl.run import Run, StageError


def write_table(run: Run, artifact: str, name: str, videos: Described, *, vectors: str) -> None:
    """Write `<name>.parquet` into a tree artifact; columns video_id, label and `vectors`. Rank 0 only."""
    run.check_ownership()
    folder = run.artifact(artifact)
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame(
        {"video_id": videos.names, "label": videos.labels.tolist(), vectors: list(videos.vectors.numpy())}
    )
    write_atomic(folder / f"{name}.parquet", lambda stream: table.to_parquet(stream, index=False))


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
