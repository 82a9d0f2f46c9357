"""Clips of the prepared tiny videos, and what is asked of their batches."""

import os
from pathlib import Path

import torch

from vssl.artifacts import Artifact, read_json
from vssl.data.clips import ClipDataset
from vssl.data.dataset_config import ClipsConfig, DatasetConfig
from vssl.data.loader import Batch
from vssl.data.views.augment_config import TwoViewAugmentConfig
from vssl.data.views.drawn import TwoView, ViewMaker

TWO_VIEWS = TwoView(TwoViewAugmentConfig(), 16)


def clips_of(
    source: Artifact,
    *,
    split: str = "train",
    motion: Artifact | None = None,
    view: ViewMaker = TWO_VIEWS,
    **settings: object,
) -> ClipDataset:
    settings = {"modality": "both" if motion else "rgb", "num_frames": 8, "crop_size": 16} | settings
    config = ClipsConfig(dataset=DatasetConfig(name="tiny", path="/videos"), **settings)
    return ClipDataset(config, split, dataset=source, motion=motion, seed=3, view=view)


def same(one: Batch, other: Batch) -> bool:
    return (
        one["video_ids"] == other["video_ids"]
        and torch.equal(one["labels"], other["labels"])
        and one["streams"].keys() == other["streams"].keys()
        and all(torch.equal(one["streams"][name], other["streams"][name]) for name in one["streams"])
    )


def break_file(source: Artifact, video_id: str) -> None:
    """Overwrite a video, keeping its size and time: what a failing disk does."""
    path = Path(read_json(source.path / "source.json")["root"]) / video_id
    status = path.stat()
    path.write_bytes(os.urandom(status.st_size))
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
