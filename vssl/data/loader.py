"""Batches in a fixed order: the same whatever the number of loader processes and ranks, from any step of any epoch."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from vssl.config import ConfigError
from vssl.data.clips import MODALITIES, ClipDataset, Sample
from vssl.data.decode import BrokenVideo
from vssl.data.label_runs import Labels, labels_at
from vssl.data.orders import OneClassGroups, Order, Shuffled
from vssl.data.reader import Reader
from vssl.data.views.augment import normalise
from vssl.data.views.looks import apply_looks
from vssl.run import StageError

_log = logging.getLogger(__name__)


class Batch(TypedDict):
    """A rank's part of a global batch."""

    streams: dict[str, Tensor]  # modality -> (B, V, 3, T, S, S) float32, normalised
    labels: Tensor  # (B,) int64
    steps: Tensor  # (B, V, T) int64 frame numbers of the views' slots, outside of the video where one is masked
    lengths: Tensor  # (B,) int64 frames of the videos
    frame_labels: NotRequired[Tensor]  # (B, V, T) int64, -1 where a slot is masked or its frame has no label
    video_ids: list[str]


class WindowBatch(TypedDict):
    """Windows of videos in manifest order; a video's windows may be spread over two batches."""

    streams: dict[str, Tensor]  # modality -> (N, 3, T, S, S) float32, normalised
    video_indices: Tensor  # (N,) int64, rows of the dataset
    labels: Tensor  # (N,) int64


@dataclass(frozen=True)
class Broken:
    """A video that did not decode."""

    video_id: str
    reason: str
    process: int  # the loader process that met it; -1: none, the process itself


class TrainLoader:
    """Shuffled batches for training; the rest of an epoch that fills no batch is dropped.

    The order of an epoch is a function of (seed, epoch). Rank r gets the contiguous slice r of each global batch.
    A video that breaks is replaced by the first of those that the order names for it that does not; who replaces whom
    is a function of the order and the set of broken files alone, so ranks and processes need not talk about it.

    Args:
        dataset: the videos.
        global_batch_size: videos per step over all ranks.
        seed: of the order.
        rank, world_size: which slice.
        workers: loader processes; 0 reads in this process.
        prefetch: batches that each process prepares ahead.
        device: where batches are normalised and handed out.
        looks_on_device: colours, blur and flips are computed there, a batch at once, and not where videos are read.
        repeats: how often each video that an epoch shows comes in it, each time augmented anew (arXiv:1902.05509); the
            epoch is as long as ever, and shows only one video in so many.
        group_size: videos of a normalisation group; None: all of a batch. The order is dealt to a batch's groups in
            turn, so that repeats go to different ones, as the public code of STS deals it to GPUs.
        class_group_size: so many slots of a batch at a time show videos of one class, see `OneClassGroups`; None: all
            are shuffled together.
        frame_labels: of all videos, by id, for batches that are to hold those of their slots.

    Raises:
        ConfigError: the batch is larger than the dataset, or not divisible by the ranks or into groups.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        global_batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        prefetch: int = 2,
        device: torch.device | str = "cpu",
        looks_on_device: bool = False,
        repeats: int = 1,
        group_size: int | None = None,
        class_group_size: int | None = None,
        frame_labels: Mapping[str, Labels] | None = None,
    ) -> None:
        if global_batch_size % world_size:
            fitting = [n for n in range(1, global_batch_size + 1) if global_batch_size % n == 0]
            raise ConfigError(
                f"global_batch_size is {global_batch_size} and there are {world_size} ranks; world sizes that fit: "
                f"{', '.join(map(str, fitting))}; or take a global_batch_size that is a multiple of {world_size}"
            )
        if group_size and global_batch_size % group_size:
            raise ConfigError(
                f"global_batch_size is {global_batch_size}, not a multiple of the {group_size} videos of a "
                f"normalisation group; make it one, or set bn_group_size to {global_batch_size}"
            )
        if global_batch_size > len(dataset):
            raise ConfigError(
                f"global_batch_size is {global_batch_size} and the split has {len(dataset)} videos of enough frames: "
                f"no batch is ever full; set global_batch_size to at most {len(dataset)}"
            )
        order: Order
        if class_group_size is None:
            order = Shuffled(len(dataset), seed, repeats=repeats)
        else:
            order = OneClassGroups(dataset.labels.tolist(), dataset.classes, class_group_size, seed)
        self.dataset, self.global_batch_size = dataset, global_batch_size
        self.steps_per_epoch = order.steps_per_epoch(global_batch_size)
        self.replaced: list[str] = []  # ids of broken videos that this rank met, once each
        self._broken_in: Counter[int] = Counter()  # loader process -> broken videos that it met
        self._rank, self._world_size = rank, world_size
        self._group_size = group_size or global_batch_size
        self._device = torch.device(device)
        self._looks_on_device = looks_on_device
        self._frame_labels = frame_labels
        fetch = _EpochSamples(dataset, order, finish=not looks_on_device)
        pin = self._device.type == "cuda"
        self._reader = Reader(fetch, _collate_samples, name=fetch.name, workers=workers, prefetch=prefetch, pin=pin)

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from a step within it to its end.

        Raises:
            StageError: a file changed since `prepare`, or no video decodes that could be shown at some place.
        """
        share = self.global_batch_size // self._world_size
        keys = [
            [(epoch, self._place(step, self._rank * share + i)) for i in range(share)]
            for step in range(start_step, self.steps_per_epoch)
        ]
        for read in self._reader.read(keys):
            self._report(read["broken"])
            batch = Batch(
                streams={name: self._to_device(name, read) for name in read["streams"]},
                labels=read["labels"].to(self._device, non_blocking=True),
                steps=read["steps"].to(self._device, non_blocking=True),
                lengths=read["lengths"].to(self._device, non_blocking=True),
                video_ids=read["video_ids"],
            )
            if self._frame_labels is not None:
                of_videos = (self._frame_labels[name] for name in read["video_ids"])
                labels = [labels_at(known, steps.numpy()) for known, steps in zip(of_videos, read["steps"])]
                batch["frame_labels"] = torch.from_numpy(np.stack(labels)).to(self._device, non_blocking=True)
            yield batch

    def _place(self, step: int, slot: int) -> int:
        """Where in the epoch's order stands what is shown in this slot of the global batch."""
        group, within = divmod(slot, self._group_size)
        groups = self.global_batch_size // self._group_size
        return step * self.global_batch_size + within * groups + group

    def close(self) -> None:
        """End the loader processes, and say how many videos broke in each, if any did."""
        if any(self._broken_in.values()):
            states = {state.number: state for state in self._reader.states()}
            for number, count in sorted(self._broken_in.items()):
                items = f" of {states[number].items} read" if number in states else ""
                _log.warning("%s: %d videos%s broke", _process(number), count, items)
            self._broken_in.clear()
        self._reader.close()

    def _to_device(self, modality: str, read: dict[str, Any]) -> Tensor:
        views = read["streams"][modality].to(self._device, non_blocking=True)  # from pinned memory, if it is a GPU
        if self._looks_on_device:
            apply_looks(views.flatten(0, 1), read["looks"], MODALITIES.index(modality))
        return normalise(views, self.dataset.statistics)

    def _report(self, broken: list[Broken]) -> None:
        for one in broken:
            self._broken_in[one.process] += 1
            if one.video_id not in self.replaced:
                self.replaced.append(one.video_id)
                _log.warning(
                    "%s broke during training in %s and is replaced by the next video: %s",
                    one.video_id,
                    _process(one.process),
                    one.reason,
                )


class TestLoader:
    """All windows of each video, in manifest order; nothing is shuffled, replaced or dropped.

    Rank r gets a contiguous range of the videos.

    Args:
        dataset: the videos; its view decides on the windows.
        batch_size: windows per batch; the last one of a rank may be smaller.
        rank, world_size: which range.
        workers: loader processes; 0 reads in this process.
        prefetch: videos that each process prepares ahead.
        device: where batches are normalised and handed out.
    """

    __test__ = False  # not a test case

    def __init__(
        self,
        dataset: ClipDataset,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        prefetch: int = 2,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dataset, self._batch_size = dataset, batch_size
        self.videos = range(len(dataset) * rank // world_size, len(dataset) * (rank + 1) // world_size)
        self._device = torch.device(device)
        pin = self._device.type == "cuda"
        self._reader = Reader(
            _AllWindows(dataset),
            _collate_windows,
            name=dataset.video_ids.__getitem__,
            workers=workers,
            prefetch=prefetch,
            pin=pin,
        )

    def __iter__(self) -> Iterator[WindowBatch]:
        """
        Raises:
            StageError: a file changed since `prepare` or does not decode; an evaluation never skips one.
        """
        pending: list[dict[str, Any]] = []  # one video's windows each, fewer than a batch together
        try:
            for read in self._reader.read([[index] for index in self.videos]):
                pending.append(read)
                while sum(len(part["labels"]) for part in pending) >= self._batch_size:
                    joined = _join(pending)
                    yield self._batch(_part(joined, slice(None, self._batch_size)))
                    pending = [_part(joined, slice(self._batch_size, None))]
            if pending and len(pending[-1]["labels"]):
                yield self._batch(_join(pending))
        finally:
            self._reader.close()

    def _batch(self, read: dict[str, Any]) -> WindowBatch:
        return WindowBatch(
            streams={
                name: normalise(windows.to(self._device, non_blocking=True), self.dataset.statistics)
                for name, windows in read["streams"].items()
            },
            video_indices=read["video_indices"],
            labels=read["labels"],
        )


class _EpochSamples:
    """(epoch, place in its order) -> sample, and the broken videos passed over on the way to it."""

    def __init__(self, dataset: ClipDataset, order: Order, *, finish: bool) -> None:
        self._dataset, self._order, self._finish = dataset, order, finish

    def __call__(self, key: tuple[int, int]) -> tuple[Sample, list[Broken]]:
        epoch, place = key
        shown = self._order.at(epoch, place)
        broken: list[Broken] = []
        for index in shown.candidates:
            try:
                return self._dataset.sample(epoch, index, finish=self._finish, repeat=shown.repeat), broken
            except BrokenVideo as error:
                worker = get_worker_info()
                number = -1 if worker is None else worker.id
                broken.append(Broken(self._dataset.video_ids[index], error.reason, number))
        raise StageError(
            f"of {len(broken)} videos that could be shown here none decodes any more; {broken[-1].video_id}: "
            f"{broken[-1].reason}"
        )

    def name(self, key: tuple[int, int]) -> str:
        """Id of the video of a key, or of the first of those tried in its place."""
        return self._dataset.video_ids[next(self._order.at(*key).candidates)]


class _AllWindows:
    def __init__(self, dataset: ClipDataset) -> None:
        self._dataset = dataset

    def __call__(self, index: int) -> Sample:
        try:
            return self._dataset.sample(0, index)
        except BrokenVideo as error:
            raise StageError(f"{error}; it decoded when the dataset was prepared: is the disk failing?") from None


def _process(number: int) -> str:
    return "the training process" if number < 0 else f"loader process {number}"


def _collate_samples(items: list[tuple[Sample, list[Broken]]]) -> dict[str, Any]:
    samples = [sample for sample, _ in items]
    return {
        "streams": {name: torch.stack([s["streams"][name] for s in samples]) for name in samples[0]["streams"]},
        "looks": [look for sample in samples for look in sample["looks"]],
        "labels": torch.tensor([sample["label"] for sample in samples]),
        "steps": torch.stack([sample["steps"] for sample in samples]),
        "lengths": torch.tensor([sample["total"] for sample in samples]),
        "video_ids": [sample["video_id"] for sample in samples],
        "broken": [entry for _, broken in items for entry in broken],
    }


def _collate_windows(items: list[Sample]) -> dict[str, Any]:
    (sample,) = items
    count = len(next(iter(sample["streams"].values())))
    return {
        "streams": sample["streams"],
        "video_indices": torch.full((count,), sample["index"]),
        "labels": torch.full((count,), sample["label"]),
    }


def _join(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "streams": {name: torch.cat([part["streams"][name] for part in parts]) for name in parts[0]["streams"]},
        "video_indices": torch.cat([part["video_indices"] for part in parts]),
        "labels": torch.cat([part["labels"] for part in parts]),
    }


def _part(read: dict[str, Any], rows: slice) -> dict[str, Any]:
    return {
        "streams": {name: windows[rows] for name, windows in read["streams"].items()},
        "video_indices": read["video_indices"][rows],
        "labels": read["labels"][rows],
    }
