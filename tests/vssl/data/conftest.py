"""Folders of videos that a test may change."""

import shutil
from pathlib import Path

import numpy as np
import pytest

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
