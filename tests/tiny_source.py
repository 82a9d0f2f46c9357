"""A prepared dataset of a few tiny videos with optical flow, written straight to disk."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from vssl.artifacts import Artifact, write_json
from vssl.data.decode import write_video

SIDE, FRAMES, CLASSES = 16, 7, ("left", "right")


def write_noise(path: Path, number: int, frames: int, side: int) -> None:
    pixels = np.random.default_rng(number).integers(0, 255, (frames, side, side, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, pixels, codec="ffv1", fps=10)


def make_source(
    root: Path,
    *,
    train: int = 8,
    test: int = 4,
    frames: int = FRAMES,
    side: int = SIDE,
    write: Callable[[Path, int, int, int], None] = write_noise,
) -> tuple[Artifact, Artifact]:
    """(dataset, motion) of `train` + `test` videos of two classes, in each so many frames of so many pixels."""
    rows, flows = [], []
    for number in range(train + test):
        label = number % len(CLASSES)
        name = f"{CLASSES[label]}/v{number:02}.mkv"
        write(root / "videos" / name, number, frames, side)
        write(root / "flow" / "videos" / name, 1000 + number, frames - 1, side)
        path = root / "videos" / name
        status = path.stat()
        rows.append(
            {
                "video_id": name, "path": name, "label": label, "split": "train" if number < train else "test",
                "frames": frames, "fps": 10.0, "width": side, "height": side, "duration_s": frames / 10,
                "size": status.st_size, "mtime_ns": status.st_mtime_ns,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "seekable": True,
            }
        )  # fmt: skip
        flows.append({"video_id": name, "path": f"videos/{name}", "frames": frames - 1, "width": side, "height": side})
    source = root / "source"
    source.mkdir()
    pd.DataFrame(rows).sort_values("video_id").to_parquet(source / "manifest.parquet", index=False)
    pd.DataFrame(flows).to_parquet(root / "flow" / "manifest.parquet", index=False)
    record = {"digest": "d" * 64, "name": "tiny", "root": str(root / "videos"), "classes": list(CLASSES)}
    write_json(source / "source.json", record | {"splits": {"train": train, "test": test}, "excluded": []})
    return (
        Artifact(type="dataset", path=source, digest="d" * 64, origin="source:tiny"),
        Artifact(type="flow", path=root / "flow", digest="e" * 64, origin="flow-tiny"),
    )
