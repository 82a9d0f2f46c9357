"""What a clip shows: both streams the same frames, long enough videos, nothing of other rows; what fails is named."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.tiny_clips import clips_of
from vssl.artifacts import Artifact, read_json
from vssl.data.decode import read_frames
from vssl.data.loader import TrainLoader
from vssl.data.sampling.dense import test_windows as windows_of
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.drawn import TestView
from vssl.run import StageError


def test_row_order_and_other_videos_do_not_enter_a_sample(prepared_source: Artifact, own_source: Artifact) -> None:
    table = pd.read_parquet(own_source.path / "manifest.parquet")
    table.iloc[::-2].to_parquet(own_source.path / "manifest.parquet")
    fewer, all_of_them = clips_of(own_source), clips_of(prepared_source)
    for index, name in enumerate(fewer.video_ids):
        mine = fewer.sample(4, index)["streams"]["rgb"]
        assert torch.equal(mine, all_of_them.sample(4, all_of_them.video_ids.index(name))["streams"]["rgb"])


def test_point_10_length_is_the_shorter_stream_and_short_videos_are_dropped(
    prepared_source: Artifact, motion: Artifact
) -> None:
    rgb = clips_of(prepared_source).videos.set_index("video_id")
    both = clips_of(prepared_source, motion=motion).videos.set_index("video_id")
    assert (both["total"] == rgb["frames"] - 1).all()
    # 36-frame clips are kept from 20 frames on: videos here have 18 to 23, their flow 17 to 22
    lengths = rgb["frames"]
    assert clips_of(prepared_source, num_frames=36).dropped_short == (lengths < 20).sum()
    assert clips_of(prepared_source, num_frames=36, motion=motion).dropped_short == (lengths - 1 < 20).sum()
    with pytest.raises(StageError, match="no video is long enough"):
        clips_of(prepared_source, num_frames=100)


def test_point_11_rgb_and_flow_of_a_clip_show_the_same_frames(prepared_source: Artifact, motion: Artifact) -> None:
    view = TestView(TestViewConfig(centre_crop=0), 32)
    dataset = clips_of(prepared_source, motion=motion, view=view, crop_size=32)
    root = Path(read_json(prepared_source.path / "source.json")["root"])
    for index in (0, 5):
        sample = dataset.sample(0, index)
        name = sample["video_id"]
        windows = windows_of(int(dataset.videos["total"][index]), 8, 1)
        for modality, path in (("rgb", root / name), ("flow", motion.path / "videos" / f"{name}.mkv")):
            frames = torch.from_numpy(read_frames(path, windows.ravel()))[:, :, 4:36]  # central square of 32 x 40
            expected = frames.view(len(windows), 8, 32, 32, 3).permute(0, 4, 1, 2, 3)
            assert torch.equal(sample["streams"][modality], expected)


def test_missing_inputs_are_named(prepared_source: Artifact, motion: Artifact, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"no split `tset` \(did you mean `test`\?\); it has: test, train"):
        clips_of(prepared_source, split="tset")
    with pytest.raises(StageError, match="no optical flow is given"):
        clips_of(prepared_source, modality="flow")
    with pytest.raises(StageError, match="not prepared"):
        clips_of(replace(prepared_source, path=tmp_path))
    fewer = pd.read_parquet(motion.path / "manifest.parquet").iloc[:2]
    fewer.to_parquet(tmp_path / "manifest.parquet")
    with pytest.raises(StageError, match="have no optical flow in flow-test"):
        clips_of(prepared_source, motion=replace(motion, path=tmp_path))


def test_an_unexpected_error_names_the_sample(prepared_source: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("vssl.data.clips.read_frames", fail)
    with pytest.raises(RuntimeError, match="out of luck") as raised:
        list(TrainLoader(clips_of(prepared_source), 2, seed=0).batches(0))
    assert any(".mp4" in note for note in raised.value.__notes__)
