"""Videos frame by frame, from the first to the last, a chunk of frames at a time: what frame-wise evaluation reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vssl.data.clips import ClipDataset
from vssl.data.decode import BrokenVideo
from vssl.data.reader import Reader
from vssl.data.sampling.long import LongView, chunks
from vssl.data.sampling.samplers import Long
from vssl.data.views.augment import normalise
from vssl.data.views.long_views import evaluation_frames
from vssl.run import StageError


@dataclass(frozen=True)
class Chunk:
    """Consecutive frames of a video."""

    index: int  # of the video in the dataset
    is_last: bool  # of the video's chunks
    frames: Tensor  # (3, n * context, S, S) float32, normalised


def frame_chunks(
    dataset: ClipDataset,
    videos: Sequence[int],
    sampler: Long,
    *,
    chunk: int,
    side: int,
    centre_crop: int | None,
    workers: int,
    prefetch: int,
    device: torch.device,
) -> Iterator[Chunk]:
    """All frames of some videos, in order, each after its context.

    Args:
        dataset: where they are from.
        videos: which of its videos.
        sampler: says which frames are a frame's context, which may lie before the chunk.
        chunk: frames at a time.
        side, centre_crop: see `evaluation_frames`.
        workers, prefetch: loader processes, and chunks that each reads ahead.
        device: where chunks are handed out.

    Raises:
        StageError: a file changed since `prepare` or does not decode; an evaluation never skips one.
    """
    parts = [(video, part) for video in videos for part in chunks(dataset.total(video), chunk)]

    def fetch(number: int) -> Tensor:
        index, part = parts[number]
        total = dataset.total(index)
        wanted = sampler.with_context(LongView(torch.arange(part.start, part.stop).numpy(), total))
        try:
            read = dataset.frames(index, wanted.tolist())
        except BrokenVideo as error:
            raise StageError(f"{error}; it decoded when the dataset was prepared: is the disk failing?") from None
        return evaluation_frames(torch.from_numpy(read), side, centre_crop).transpose(0, 1).contiguous()

    reader = Reader(
        fetch,
        lambda items: items[0],
        name=lambda number: dataset.video_ids[parts[number][0]],
        workers=workers,
        prefetch=prefetch,
        pin=device.type == "cuda",
    )
    try:
        for (index, part), planes in zip(parts, reader.read([[number] for number in range(len(parts))])):
            frames = normalise(planes.to(device, non_blocking=True), dataset.statistics)
            yield Chunk(index, part.stop == dataset.total(index), frames)
    finally:
        reader.close()
