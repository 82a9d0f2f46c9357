"""Prepared videos whose frames have labels."""

from pathlib import Path
from typing import Any

from vssl.artifacts import Artifact
from vssl.config import build
from vssl.data.dataset_config import DatasetConfig
from vssl.data.prepare import prepare


def labelled_source(root: Path, **knobs: Any) -> Artifact:
    """Of the knobs of a dataset, as `path` or `generated`, in the layout of lists of videos and labels of frames."""
    lists = {"train": "train.pkl", "val": "val.pkl"}
    config = build(DatasetConfig, {"name": "p", "layout": "lists", "lists": lists} | knobs)
    record = prepare(config, root / "sources", lambda text: None)
    return Artifact(type="dataset", path=root / "sources" / config.key(), digest=record["digest"], origin="source:p")


def phases_source(root: Path, **knobs: Any) -> Artifact:
    """Videos made here, of one process in phases; 8 to train on and 4 to test unless the knobs say otherwise."""
    given = {"name": "phases", "videos_train": 8, "videos_val": 4, "phases": 4, "size": 32, "frames": [24, 40]}
    return labelled_source(root, generated=given | knobs)
