"""Batches depend on seed, epoch and step alone, whatever processes, threads, ranks and restarts there are."""

import multiprocessing
import os
import signal
from typing import Any

import pytest
import torch

from tests.tiny_clips import clips_of, same
from vssl.artifacts import Artifact
from vssl.config import ConfigError
from vssl.data import reader
from vssl.data.loader import TestLoader, TrainLoader
from vssl.data.views.augment import normalise
from vssl.data.views.augment_config import ClassifyAugmentConfig, TestViewConfig, TwoViewAugmentConfig
from vssl.data.views.drawn import ClassifyView, TestView, TwoView


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


def test_the_batch_must_fit(prepared_source: Artifact) -> None:
    dataset = clips_of(prepared_source)
    with pytest.raises(ConfigError, match="world sizes that fit: 1, 2, 4"):
        TrainLoader(dataset, 4, seed=0, world_size=3)
    with pytest.raises(ConfigError, match="at most 8"):
        TrainLoader(dataset, 9, seed=0)
    with pytest.raises(ConfigError, match="not a multiple of the 3 videos of a normalisation group"):
        TrainLoader(dataset, 4, seed=0, group_size=3)


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
