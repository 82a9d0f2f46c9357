"""Folders of videos that a test may change, and optical flow of the prepared ones."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vssl.artifacts import Artifact
from vssl.data.decode import write_video


@pytest.fixture
def videos(tiny_videos: Path, tmp_path: Path) -> Path:
    """A copy of the videos that a test may change."""
    return Path(shutil.copytree(tiny_videos, tmp_path / "videos"))


@pytest.fixture
def damaged(videos: Path) -> Path:
    """The videos, and one each: truncated, empty, three frames long, no video, and a note beside them."""
    good = (videos / "run" / "run 5.mp4").read_bytes()
    (videos / "run" / "truncated.mp4").write_bytes(good[: len(good) // 2])
    (videos / "run" / "empty.mp4").touch()
    (videos / "run" / "text.mp4").write_text("not a video\n" * 100)
    (videos / "run" / "notes.txt").write_text("a note")
    three = np.random.default_rng(0).integers(0, 256, (3, 32, 40, 3), dtype=np.uint8)
    write_video(videos / "run" / "three.mp4", three, codec="libx264", fps=25)
    return videos


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture(scope="session")
def motion(prepared_source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A tree of flow videos: noise, one frame shorter than the video."""
    tree, rows = tmp_path_factory.mktemp("flow"), []
    for row in pd.read_parquet(prepared_source.path / "manifest.parquet").itertuples():
        path = tree / "videos" / f"{row.video_id}.mkv"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(row.frames).integers(0, 256, (row.frames - 1, 32, 40, 3), dtype=np.uint8)
        write_video(path, noise, codec="ffv1", fps=25)
        rows.append({"video_id": row.video_id, "path": f"videos/{row.video_id}.mkv", "frames": row.frames - 1})
    pd.DataFrame(rows).assign(width=40, height=32).to_parquet(tree / "manifest.parquet")
    return Artifact(type="flow", path=tree, digest="f" * 64, origin="flow-test")
