"""Videos frame by frame, from the first to the last, a chunk of frames at a time: what frame-wise evaluation reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
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

_BYTES_AT_ONCE = 2**28  # of decoded frames: 43 of full HD, 388 of 640x360


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

    Several chunks are decoded at a time, as many as memory allows: each time a file is opened and decoded from the key
    frame before, or from its start where it cannot be sought.

    Args:
        dataset: where they are from.
        videos: which of its videos.
        sampler: says which frames are a frame's context, which may lie before the chunk.
        chunk: frames at a time.
        side, centre_crop: see `evaluation_frames`.
        workers, prefetch: loader processes, and how often each decodes ahead.
        device: where chunks are handed out.

    Raises:
        StageError: a file changed since `prepare` or does not decode; an evaluation never skips one.
    """
    context = sampler.config.num_context_frames
    runs: list[tuple[int, Sequence[range]]] = []  # video, consecutive chunks of it
    for video in videos:
        parts = chunks(dataset.total(video), chunk)
        frame_bytes = 3 * context * max(dataset.area(video), side**2)
        at_once = max(1, _BYTES_AT_ONCE // (frame_bytes * len(parts[0])))
        runs += [(video, parts[first : first + at_once]) for first in range(0, len(parts), at_once)]

    def fetch(number: int) -> list[Tensor]:
        index, parts = runs[number]
        steps = np.arange(parts[0].start, parts[-1].stop)
        wanted = sampler.with_context(LongView(steps, dataset.total(index)))
        try:
            read = torch.from_numpy(dataset.frames(index, wanted.tolist()))
        except BrokenVideo as error:
            raise StageError(f"{error}; it decoded when the dataset was prepared: is the disk failing?") from None
        pieces = torch.split(read, [context * len(part) for part in parts])
        return [evaluation_frames(piece, side, centre_crop).transpose(0, 1).contiguous() for piece in pieces]

    reader = Reader(
        fetch,
        lambda items: items[0],
        name=lambda number: dataset.video_ids[runs[number][0]],
        workers=workers,
        prefetch=prefetch,
        pin=device.type == "cuda",
    )
    try:
        for (index, parts), pieces in zip(runs, reader.read([[number] for number in range(len(runs))])):
            for part, planes in zip(parts, pieces):
                frames = normalise(planes.to(device, non_blocking=True), dataset.statistics)
                yield Chunk(index, part.stop == dataset.total(index), frames)
    finally:
        reader.close()
