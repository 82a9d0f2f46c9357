"""One vector per video of a split, from a network in eval mode; shared by retrieval and the linear probe."""

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
) -> Described:
    """The mean of `per_window` over the windows of each video, in manifest order. All ranks call.

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

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in loader:
            if is_main():  # rank 0 has the first videos
                run.beat(int(batch["video_indices"][-1]) + 1, len(loader.videos))
            yield batch["video_indices"], batch["streams"][modality]

    with autocast(runtime, device):
        vectors = mean_over_windows(per_window, batches(), len(dataset), after_each=after_each)
    return Described(names=list(dataset.video_ids), labels=dataset.labels, vectors=vectors)
