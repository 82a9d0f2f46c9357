"""Batches depend on seed, epoch and step alone; broken, changed and short files are met by name."""

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from vssl.artifacts import Artifact, read_json
from vssl.config import ConfigError
from vssl.data import reader
from vssl.data.clips import ClipDataset
from vssl.data.dataset_config import ClipsConfig, DatasetConfig
from vssl.data.decode import read_frames, write_video
from vssl.data.loader import Batch, TestLoader, TrainLoader
from vssl.data.sampling.dense import test_windows as windows_of
from vssl.data.views.augment import normalise
from vssl.data.views.augment_config import ClassifyAugmentConfig, TestViewConfig, TwoViewAugmentConfig
from vssl.data.views.drawn import ClassifyView, TestView, TwoView, ViewMaker
from vssl.run import StageError

TWO_VIEWS = TwoView(TwoViewAugmentConfig(), 16)


@pytest.fixture(scope="module")
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


def test_a_pretraining_batch(prepared_source: Artifact, motion: Artifact) -> None:
    loader = TrainLoader(clips_of(prepared_source, motion=motion), 3, seed=0)
    assert loader.steps_per_epoch == 2  # 8 videos, the last 2 dropped
    batches = list(loader.batches(0))
    assert len(batches) == 2
    for batch in batches:
        assert batch["streams"].keys() == {"rgb", "flow"}
        assert all(views.shape == (3, 2, 3, 8, 16, 16) for views in batch["streams"].values())
        assert all(views.dtype == torch.float32 for views in batch["streams"].values())
        assert ((batch["steps"] >= 0) & (batch["steps"] < batch["lengths"][:, None, None])).all()  # all is shown
    seen = [name for batch in batches for name in batch["video_ids"]]
    assert len(set(seen)) == 6
    labels = {name: label for batch in batches for name, label in zip(batch["video_ids"], batch["labels"].tolist())}
    assert all((name.startswith("run/")) == (label == 1) for name, label in labels.items())


def test_epochs_differ_and_repeat(prepared_source: Artifact) -> None:
    first, again = (TrainLoader(clips_of(prepared_source), 4, seed=0) for _ in range(2))
    epochs = [list(first.batches(epoch)) for epoch in range(3)]
    assert not same(epochs[0][0], epochs[1][0])
    assert all(same(a, b) for a, b in zip(epochs[2], again.batches(2)))
    assert sorted(n for b in epochs[0] for n in b["video_ids"]) == sorted(n for b in epochs[1] for n in b["video_ids"])


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_and_restarts_change_nothing(prepared_source: Artifact, motion: Artifact, workers: int) -> None:
    calm = TrainLoader(clips_of(prepared_source, motion=motion), 2, seed=0)
    expected = {epoch: list(calm.batches(epoch)) for epoch in range(2)}
    before = torch.get_rng_state()
    other = TrainLoader(clips_of(prepared_source, motion=motion), 2, seed=0, workers=workers)
    try:
        some = other.batches(0)
        assert same(next(some), expected[0][0])  # abandoned in the middle of the epoch
        some.close()
        for epoch, start in ((0, 1), (1, 0), (1, 3)):
            found = list(other.batches(epoch, start))
            assert len(found) == 4 - start
            assert all(same(a, b) for a, b in zip(found, expected[epoch][start:]))
    finally:
        other.close()
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is nobody's here


@pytest.mark.parametrize("workers", [0, 2])
def test_colours_of_a_whole_batch_are_those_of_its_clips(
    prepared_source: Artifact, motion: Artifact, workers: int
) -> None:
    strong = TwoViewAugmentConfig(two_clip_probability=1.0, strong_probability=0.7, grey_probability=0.5)
    dataset = clips_of(prepared_source, motion=motion, view=TwoView(strong, 16))
    batches = [
        list(TrainLoader(dataset, 4, seed=0, workers=workers, looks_on_device=on_device).batches(1))
        for on_device in (False, True)
    ]
    for here, there in zip(*batches, strict=True):
        assert here["video_ids"] == there["video_ids"]
        for name in ("rgb", "flow"):
            difference = (here["streams"][name] - there["streams"][name]).abs() * 255 * 0.225  # levels
            assert difference.max() < 4
            assert (difference > 0.5).double().mean() < 0.01


def test_threads_change_nothing(prepared_source: Artifact) -> None:
    strong = TwoViewAugmentConfig(two_clip_probability=1.0, strong_probability=1.0, jitter_probability=1.0)
    dataset = clips_of(prepared_source, view=TwoView(strong, 64), crop_size=64)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(next(TrainLoader(dataset, 4, seed=0).batches(0)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert same(*found)


def test_a_signal_to_all_processes_of_a_job_leaves_loader_processes_alone(prepared_source: Artifact) -> None:
    loader = TrainLoader(clips_of(prepared_source), 2, seed=0, workers=2)
    batches = loader.batches(0)
    names = next(batches)["video_ids"]
    for child in multiprocessing.active_children():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            os.kill(child.pid, number)
    names += [name for batch in batches for name in batch["video_ids"]]
    loader.close()
    assert len(set(names)) == 8


def test_ranks_take_contiguous_slices_of_the_global_batch(prepared_source: Artifact) -> None:
    whole = list(TrainLoader(clips_of(prepared_source), 4, seed=0).batches(5))
    for rank in range(2):
        part = TrainLoader(clips_of(prepared_source), 4, seed=0, rank=rank, world_size=2).batches(5)
        for mine, everyones in zip(part, whole, strict=True):
            rows = slice(2 * rank, 2 * rank + 2)
            assert mine["video_ids"] == everyones["video_ids"][rows]
            assert torch.equal(mine["streams"]["rgb"], everyones["streams"]["rgb"][rows])


def test_repeats_go_to_different_groups_each_with_draws_of_its_own(prepared_source: Artifact) -> None:
    once = list(TrainLoader(clips_of(prepared_source), 4, seed=0).batches(5))
    order = [name for batch in once for name in batch["video_ids"]]
    repeated = TrainLoader(clips_of(prepared_source), 4, seed=0, repeats=2, group_size=2)
    batches = list(repeated.batches(5))
    assert len(batches) == repeated.steps_per_epoch == len(once)  # an epoch is as long, and shows half of the videos
    for number, batch in enumerate(batches):
        shown = order[2 * number : 2 * number + 2]
        assert batch["video_ids"] == shown + shown  # of two groups, each has one of every pair of repeats
        first, second = batch["streams"]["rgb"].split(2)
        assert not any(torch.equal(one, other) for one, other in zip(first, second, strict=True))
        assert torch.equal(first[0], once[0]["streams"]["rgb"][0]) == (number == 0)
    assert same(next(repeated.batches(5, 1)), batches[1])
    for rank in range(2):
        part = TrainLoader(clips_of(prepared_source), 4, seed=0, repeats=2, group_size=2, rank=rank, world_size=2)
        rows = slice(2 * rank, 2 * rank + 2)
        assert [batch["video_ids"] for batch in part.batches(5)] == [batch["video_ids"][rows] for batch in batches]


def test_row_order_and_other_videos_do_not_enter_a_sample(prepared_source: Artifact, own_source: Artifact) -> None:
    table = pd.read_parquet(own_source.path / "manifest.parquet")
    table.iloc[::-2].to_parquet(own_source.path / "manifest.parquet")
    fewer, all_of_them = clips_of(own_source), clips_of(prepared_source)
    for index, name in enumerate(fewer.video_ids):
        mine = fewer.sample(4, index)["streams"]["rgb"]
        assert torch.equal(mine, all_of_them.sample(4, all_of_them.video_ids.index(name))["streams"]["rgb"])


def test_the_batch_must_fit(prepared_source: Artifact) -> None:
    dataset = clips_of(prepared_source)
    with pytest.raises(ConfigError, match="world sizes that fit: 1, 2, 4"):
        TrainLoader(dataset, 4, seed=0, world_size=3)
    with pytest.raises(ConfigError, match="at most 8"):
        TrainLoader(dataset, 9, seed=0)
    with pytest.raises(ConfigError, match="not a multiple of the 3 videos of a normalisation group"):
        TrainLoader(dataset, 4, seed=0, group_size=3)


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


def test_a_classification_batch(prepared_source: Artifact) -> None:
    view = ClassifyView(ClassifyAugmentConfig(resize_crop=24), 16)
    (batch, *_) = TrainLoader(clips_of(prepared_source, view=view), 4, seed=0).batches(0)
    assert batch["streams"]["rgb"].shape == (4, 1, 3, 8, 16, 16)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 3])
def test_all_windows_come_in_manifest_order(prepared_source: Artifact, workers: int, world_size: int) -> None:
    dataset = clips_of(prepared_source, split="test", view=TestView(TestViewConfig(centre_crop=24), 16))
    samples = [dataset.sample(0, index)["streams"]["rgb"] for index in range(len(dataset))]
    loaders = [TestLoader(dataset, 5, rank=rank, world_size=world_size, workers=workers) for rank in range(world_size)]
    batches = [batch for loader in loaders for batch in loader]
    assert torch.equal(torch.cat([b["streams"]["rgb"] for b in batches]), normalise(torch.cat(samples)))
    indices = torch.cat([b["video_indices"] for b in batches])
    assert indices.tolist() == [index for index, windows in enumerate(samples) for _ in windows]
    assert torch.equal(torch.cat([b["labels"] for b in batches]), dataset.labels[indices])
    if world_size == 1:
        assert {len(b["labels"]) for b in batches[:-1]} == {5}


def test_one_clip_of_each_video_for_compatibility(prepared_source: Artifact) -> None:
    view = TestView(TestViewConfig(centre_crop=24), 16, one_clip=True)
    dataset = clips_of(prepared_source, view=view)
    (batch,) = TestLoader(dataset, 100)
    assert batch["video_indices"].tolist() == list(range(8))


def break_file(source: Artifact, video_id: str) -> None:
    """Overwrite the end of a video, keeping its size and time: what a failing disk does."""
    path = Path(read_json(source.path / "source.json")["root"]) / video_id
    status = path.stat()
    path.write_bytes(os.urandom(status.st_size))
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_is_replaced_by_the_next_of_the_order(
    own_source: Artifact, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    whole = [name for batch in TrainLoader(clips_of(own_source), 2, seed=0).batches(0) for name in batch["video_ids"]]
    for name in (whole[2], whole[7]):
        break_file(own_source, name)
    loader = TrainLoader(clips_of(own_source), 2, seed=0, workers=workers)
    found = [name for batch in loader.batches(0) for name in batch["video_ids"]]
    loader.close()
    expected = [*whole]
    expected[2], expected[7] = whole[3], whole[0]  # after the last comes the first
    assert found == expected
    assert loader.replaced == [whole[2], whole[7]]
    assert f"{whole[2]} broke during training" in caplog.text
    processes = {"loader process 0", "loader process 1"} if workers else {"the training process"}
    summary = [record.message for record in caplog.records if record.message.endswith("broke")]
    assert summary  # how many broke where, and of how many
    assert {message.split(":")[0] for message in summary} <= processes
    restored = TrainLoader(clips_of(own_source), 2, seed=0)
    restored.replaced = list(loader.replaced)  # as a checkpoint does
    assert [name for batch in restored.batches(0) for name in batch["video_ids"]] == expected
    assert restored.replaced == loader.replaced  # each counted once


def test_an_evaluation_replaces_nothing(own_source: Artifact) -> None:
    dataset = clips_of(own_source, split="test", view=TestView(TestViewConfig(centre_crop=24), 16))
    break_file(own_source, dataset.video_ids[1])
    with pytest.raises(StageError, match=dataset.video_ids[1]):
        list(TestLoader(dataset, 4))


def test_no_video_left_is_an_error(own_source: Artifact) -> None:
    dataset = clips_of(own_source)
    for name in dataset.video_ids:
        break_file(own_source, name)
    with pytest.raises(StageError, match="of 8 videos that could be shown here none decodes"):
        list(TrainLoader(dataset, 2, seed=0).batches(0))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("change", ["touched", "longer", "gone"])
def test_data_that_changed_since_prepare_stops_the_stage(own_source: Artifact, workers: int, change: str) -> None:
    dataset = clips_of(own_source)
    path = Path(read_json(own_source.path / "source.json")["root"]) / dataset.video_ids[3]
    if change == "touched":
        os.utime(path, (1, 1))
    elif change == "longer":
        path.write_bytes(path.read_bytes() + b"\0")
    else:
        path.unlink()
    loader = TrainLoader(dataset, 2, seed=0, workers=workers)
    with pytest.raises(StageError, match=f"data changed since prepare: .*{dataset.video_ids[3]}"):
        list(loader.batches(0))
    loader.close()


def test_an_unexpected_error_names_the_sample(prepared_source: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("vssl.data.clips.read_frames", fail)
    with pytest.raises(RuntimeError, match="out of luck") as raised:
        list(TrainLoader(clips_of(prepared_source), 2, seed=0).batches(0))
    assert any(".mp4" in note for note in raised.value.__notes__)


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


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_for_a_gpu_are_asked_for_in_page_locked_memory(
    device: str, prepared_source: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def start(*_: Any, pin_memory: bool, **__: Any) -> list[Any]:
        asked.append(pin_memory)
        return []

    monkeypatch.setattr(reader, "DataLoader", start)
    loader = TrainLoader(clips_of(prepared_source), global_batch_size=4, seed=0, workers=1, device=device)
    assert not list(loader.batches(0))
    assert asked == [device == "cuda"]
