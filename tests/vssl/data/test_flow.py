"""Quantised flow against the original's, real motion, and the stage that writes a tree of it."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.models.optical_flow import raft_small

from tests.conftest import drifting
from tests.goldens import golden
from vssl.artifacts import Artifact, StageFolder
from vssl.config import build
from vssl.data.dataset_config import DatasetConfig, WholeVideosConfig
from vssl.data.decode import all_frames, inspect, read_frames, write_video
from vssl.data.flow import ENCODINGS, check_estimator, estimator, flow_pictures, quantise, to_rgb, write_flow
from vssl.data.manifest import load_source
from vssl.run import Run, StageError
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
    estimator.cache_clear()
    with pytest.raises(StageError, match="extra `flow`"):
        estimator("farneback")


def config_of(workers: int = 0) -> FlowConfig:
    source = WholeVideosConfig(dataset=DatasetConfig(name="tiny", path="/videos"))
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


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Flow of a moving camera behind which something else moves."""
    frames = drifting(6, 96, 128, seed=3)
    frames[:, 30:60, 40:80] = drifting(6, 30, 40, seed=4)[:, ::-1]
    return list(flow_pictures(frames, estimator("farneback"), 20.0))


@pytest.mark.parametrize(
    ("encoding", "mean", "share_of_ffv1"),
    [("ffv1", 0, 1), ("h264-lossless", 0, 0.8), ("h264", 0.5, 0.3), ("jpeg", 3, 0.5)],
)
def test_what_an_encoding_loses_of_u_and_v_and_saves_of_space(
    encoding: str, mean: float, share_of_ffv1: float, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    path, plain = tmp_path / "flow.mkv", tmp_path / "plain.mkv"
    assert write_flow(path, pictures, encoding, 25.0) == len(pictures)
    write_flow(plain, pictures, "ffv1", 25.0)
    found = np.stack(list(all_frames(path))).astype(int) - np.stack(pictures)
    off = np.abs(found[..., 1:]).mean()
    assert off <= mean
    assert off > mean / 5 or mean == 0
    assert path.stat().st_size <= share_of_ffv1 * plain.stat().st_size
    assert inspect(path).seekable, "as clips read it"


def test_halved_chroma_is_what_costs_jpeg_its_accuracy(pictures: list[np.ndarray], tmp_path: Path) -> None:
    """At one quality: with u and v at half the resolution, and without."""
    off = {}
    for name, pixel_format in (("halved", "yuvj420p"), ("whole", "yuvj444p")):
        path = tmp_path / f"{name}.mkv"
        write_video(
            path, pictures, codec="mjpeg", fps=25, pixel_format=pixel_format, options=dict(ENCODINGS["jpeg"].options)
        )
        off[name] = np.abs(np.stack(list(all_frames(path))).astype(int) - np.stack(pictures))[..., 1:].mean()
    assert off["whole"] < 0.6 * off["halved"]


@pytest.fixture(scope="module")
def raft_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "raft_small.pth"
    torch.save(raft_small(weights=None).state_dict(), path)
    return path


def test_raft_gives_the_networks_own_flow_of_frames_of_any_size(raft_weights: Path) -> None:
    raft = estimator("raft", raft_weights)
    frames = drifting(2, 132, 140, seed=0)  # neither is a multiple of 8
    network = raft_small(weights=None).eval()
    network.load_state_dict(torch.load(raft_weights, weights_only=True))
    padded = np.pad(frames, ((0, 0), (0, 4), (0, 4), (0, 0)), mode="edge")
    before, after = torch.from_numpy(padded).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        meant = network(before[None], after[None])[-1][0, :, :132, :140].permute(1, 2, 0).numpy()
    found = raft.between(*map(raft.see, frames))
    assert found.shape == (132, 140, 2)
    np.testing.assert_allclose(found, meant, atol=1e-3)
    tiny = raft.between(*map(raft.see, drifting(2, 32, 40, seed=0)))
    assert tiny.shape == (32, 40, 2)


def test_raft_without_its_weights_or_with_others_says_what_is_missing(raft_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"no weights are bound.*file:/data/raft_large\.pth"):
        check_estimator("raft", None)
    torch.save({"layer": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(StageError, match="another network"):
        estimator("raft", tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("weights?")
    with pytest.raises(StageError, match="holds no weights"):
        estimator("raft", tmp_path / "text.pth")


def test_the_stage_reads_rafts_weights(prepared_source: Artifact, raft_weights: Path, tmp_path: Path) -> None:
    data = {"dataset": {"name": "tiny", "path": "/videos"}}
    config = build(FlowConfig, {"algorithm": "raft", "data": data, "shard": "1/12", "runtime": {"workers": 1}})
    weights = Artifact(type="weights", path=raft_weights, digest="", origin=f"file:{raft_weights}")
    inputs = {"dataset": (prepared_source,), "weights": (weights,)}
    figures = stage.run(config, inputs, Run(StageFolder(tmp_path)))
    assert (figures["videos"], figures["frames"]) == (1, 22)
    with pytest.raises(StageError, match="no weights are bound"):
        stage.run(config, {"dataset": (prepared_source,)}, Run(StageFolder(tmp_path)))
