"""Fixtures that several packages use: a few real videos, and the same prepared."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.lines import MainLine
from vssl.artifacts import Artifact, read_json, write_json

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # read once, when torch is imported; tests start several processes
for variable in ("VSSL_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
    os.environ.pop(variable, None)  # no test touches the user's own stores and servers
os.environ["VSSL_PROFILES"] = os.devnull  # nor reads the user's own cluster profiles

# A shell starts background jobs with Ctrl-C ignored, and that is inherited: a test that interrupts would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Several processes share the cores, so a slow draw is no failure.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def drifting(count: int, height: int, width: int, seed: int) -> np.ndarray:
    """(count, height, width, 3) uint8 frames of a texture that drifts."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    return np.stack([np.roll(texture, (k, 2 * k), (0, 1))[:height, :width] for k in range(count)])


@pytest.fixture(scope="session")
def tiny_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes with six short H.264 videos each: <class>/<name>.mp4, 18 to 23 frames of 32 x 40."""
    from vssl.data.decode import write_video

    root = tmp_path_factory.mktemp("videos")
    for label, name in enumerate(("jump", "run")):
        (root / name).mkdir()
        for number in range(6):
            frames = drifting(18 + number, 32, 40, seed=10 * label + number)
            options = {"preset": "ultrafast", "g": "6", "bf": str(number % 3)}
            write_video(root / name / f"{name} {number}.mp4", frames, codec="libx264", fps=25, options=options)
    return root


@pytest.fixture(scope="session")
def prepared_source(tiny_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """`tiny_videos` as a source artifact: 8 training and 4 test videos."""
    from vssl.data.dataset_config import DatasetConfig
    from vssl.data.prepare import prepare

    config = DatasetConfig(name="tiny", path=str(tiny_videos), test_share=1 / 3)
    sources = tmp_path_factory.mktemp("sources")
    record = prepare(config, sources, lambda text: None)
    return Artifact(
        type="dataset", path=sources / config.key(), digest=record["digest"], origin=f"source:{config.name}"
    )


@pytest.fixture
def own_source(prepared_source: Artifact, tmp_path: Path) -> Artifact:
    """The prepared source over a copy of the videos that a test may damage; times are kept."""
    shutil.copytree(prepared_source.path, tmp_path / "source")
    record = read_json(prepared_source.path / "source.json")
    shutil.copytree(record["root"], tmp_path / "videos")
    write_json(tmp_path / "source" / "source.json", record | {"root": str(tmp_path / "videos")})
    return replace(prepared_source, path=tmp_path / "source")


@pytest.fixture(scope="session")
def main_line(tmp_path_factory: pytest.TempPathFactory) -> MainLine:
    """Run once, in processes of its own. Tests may add stages to its store; one that redoes or breaks takes a copy."""
    return MainLine.run(tmp_path_factory.mktemp("main_line") / "store")
