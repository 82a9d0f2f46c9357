"""Quantised flow against the original's, real motion, and the stage that writes a tree of it."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.goldens import golden
from vssl.artifacts import Artifact, StageFolder
from vssl.data.dataset_config import DatasetConfig, FlowSourceConfig
from vssl.data.decode import read_frames
from vssl.data.flow import estimator, flow_pictures, quantise, to_rgb
from vssl.data.manifest import load_source
from vssl.run import Run, StageError, Stopped
from vssl.stages import flow as stage
from vssl.stages.flow_config import FlowConfig
from vssl.stages.runtime_config import CoresConfig


def test_point_11_flow_pictures_equal_the_originals() -> None:
    numbers = golden("flow_encode")
    bound = float(numbers["bound"])
    assert np.array_equal(quantise(numbers["flow"], bound), numbers["quantised_xy"])
    assert np.array_equal(to_rgb(numbers["flow"], bound), numbers["image_rgb"])


def test_point_11_no_motion_is_128_and_the_bounds_are_0_and_255() -> None:
    flow = np.array([[[0, 0], [20, -20], [-20, 20], [99, -99]]], dtype=np.float32)
    assert quantise(flow, 20.0).tolist() == [[[128, 128], [255, 0], [0, 255], [255, 0]]]
    assert to_rgb(flow, 20.0)[0, 1].tolist() == [128, 0, 255]  # (128, v, u)


@pytest.mark.parametrize("algorithm", ["farneback", "tvl1"])
def test_a_shift_is_found_in_its_channel(algorithm: str) -> None:
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (12, 16, 1), dtype=np.uint8).repeat(6, 0).repeat(6, 1).repeat(3, 2)
    frames = [np.roll(texture, (k, 3 * k), (0, 1)) for k in range(2)]  # 1 down, 3 to the right
    (picture,) = flow_pictures(frames, estimator(algorithm), 20.0)
    red, green, blue = np.median(picture[12:-12, 12:-12], axis=(0, 1))
    assert red == 128
    assert green == pytest.approx(128 + 1 * 255 / 40, abs=2)
    assert blue == pytest.approx(128 + 3 * 255 / 40, abs=3)


def test_missing_opencv_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(StageError, match="extra `flow`"):
        estimator("farneback")


def config_of(workers: int = 0) -> FlowConfig:
    source = FlowSourceConfig(dataset=DatasetConfig(name="tiny", path="/videos"))
    return FlowConfig(algorithm="farneback", data=source, runtime=CoresConfig(workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_stage_makes_a_tree_that_reads_like_video(prepared_source: Artifact, tmp_path: Path, workers: int) -> None:
    figures = stage.run(config_of(workers), {"dataset": (prepared_source,)}, Run(StageFolder(tmp_path)))
    videos = pd.read_parquet(prepared_source.path / "manifest.parquet").set_index("video_id")
    tree = tmp_path / "artifacts" / "flow"
    table = pd.read_parquet(tree / "manifest.parquet").set_index("video_id")
    assert figures["videos"] == len(table) == len(videos)
    assert figures["frames"] == (videos["frames"] - 1).sum()
    assert (table["frames"] == videos["frames"] - 1).all()
    assert not list(tree.rglob("*.tmp"))
    name = table.index[0]
    row = table.loc[name]
    pictures = read_frames(tree / row["path"], range(row["frames"]))
    assert pictures.shape == (row["frames"], 32, 40, 3)
    frames = read_frames(load_source(prepared_source.path).root / name, range(row["frames"] + 1))
    expected = np.stack(list(flow_pictures(frames, estimator("farneback"), 20.0)))
    assert np.array_equal(pictures, expected)  # stored without loss


def test_a_stopped_stage_goes_on_where_it_was(prepared_source: Artifact, tmp_path: Path) -> None:
    asked = iter([False, False, True])
    stopping = Run(StageFolder(tmp_path), stop_requested=lambda: next(asked))
    with pytest.raises(Stopped):
        stage.run(config_of(), {"dataset": (prepared_source,)}, stopping)
    tree = tmp_path / "artifacts" / "flow"
    assert not (tree / "manifest.parquet").exists()
    done = {path: path.stat().st_mtime_ns for path in tree.rglob("*.mkv")}
    assert len(done) == 3
    (next(iter(done)).parent / ".half.mkv.abc.tmp").write_bytes(b"left by a killed attempt")
    stage.run(config_of(), {"dataset": (prepared_source,)}, Run(StageFolder(tmp_path)))
    assert all(path.stat().st_mtime_ns == written for path, written in done.items())
    assert len(list(tree.rglob("*.mkv"))) == 12
    assert not list(tree.rglob("*.tmp"))
