"""One vector per video of a split, from a network in eval mode; shared by retrieval and all classifiers."""

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

from vssl.data.clips import ClipDataset
from vssl.data.loader import TestLoader
from vssl.device import autocast
from vssl.distributed import any_true, is_main, rank, world_size
from vssl.evals.features import PerWindow, mean_over_windows
from vssl.evals.protocols import Described
from vssl.run import Run, Stopped
from vssl.stages.runtime_config import RuntimeConfig


def describe(
    dataset: ClipDataset,
    per_window: PerWindow,
    run: Run,
    *,
    runtime: RuntimeConfig,
    batch_size: int,
    device: torch.device,
    crops: int = 1,
    largest: bool = False,
) -> Described:
    """The mean of `per_window` over the windows of each video, in manifest order. All ranks call.

    Args:
        dataset: the videos; its view gives the windows.
        per_window: network in eval mode with whatever follows it.
        run: the stage's execution.
        runtime: precision and loading.
        batch_size: windows per forward.
        device: where to compute.
        crops: more than 1: the view gives so many crops of each window, one window after the other, and each crop has
            a mean of its own; vectors are then (videos, crops, D).
        largest: instead of the mean, the largest value of each column.

    Raises:
        Stopped: some rank was asked to stop; nothing is lost but the time.
    """

    def after_each() -> None:
        if any(any_true(run.should_stop())):
            raise Stopped("stopped during an evaluation, which will start again")

    loader = TestLoader(
        dataset,
        batch_size,
        rank=rank(),
        world_size=world_size(),
        workers=runtime.workers,
        prefetch=runtime.prefetch,
        device=device,
    )
    modality = dataset.modalities[0]
    seen: Counter[int] = Counter()  # windows of each video that came

    def places(videos: Tensor) -> Tensor:
        """Of windows, the numbers of the means that they go into."""
        found = []
        for video in videos.tolist():
            found.append(video * crops + seen[video] % crops)
            seen[video] += 1
        return torch.tensor(found)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in loader:
            if is_main():  # rank 0 has the first videos
                run.beat(int(batch["video_indices"][-1]) + 1, len(loader.videos))
            yield places(batch["video_indices"]), batch["streams"][modality]

    with autocast(runtime, device):
        vectors = mean_over_windows(per_window, batches(), len(dataset) * crops, after_each=after_each, largest=largest)
    if crops > 1:
        vectors = vectors.view(len(dataset), crops, -1)
    return Described(names=list(dataset.video_ids), labels=dataset.labels, vectors=vectors)
