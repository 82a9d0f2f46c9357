"""One vector per video from a frozen network: the mean over the video's windows."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from vssl.distributed import all_gather_object, any_true

PerWindow = Callable[[Tensor], Tensor]  # (n, 3, T, H, W) -> (n, D)


def unit(features: Tensor) -> Tensor:
    """L2-normalised rows, in float32."""
    return F.normalize(features.float(), dim=1)


@torch.no_grad()
def mean_over_windows(
    per_window: PerWindow,
    batches: Iterable[tuple[Tensor, Tensor]],
    count: int,
    *,
    after_each: Callable[[], None] = lambda: None,
    largest: bool = False,
) -> Tensor:
    """Average a network's output over all windows of each video.

    With several ranks, `batches` holds this rank's videos, and every rank gets the whole result.

    Args:
        per_window: network in eval mode with whatever follows it, such as L2 or softmax per window.
        batches: ((n,) video indices, (n, 3, T, H, W) windows); a video's windows may be spread over batches.
        count: number of videos over all ranks.
        after_each: called after each batch, for signs of life and requests to stop; equally often on all ranks.
        largest: not the mean but, column by column, the largest output of any window.

    Returns:
        (count, D) float32 on the CPU, row i for the video of index i.

    Raises:
        ValueError: a video of which no window came, or of which windows came to two ranks.
    """
    windows: dict[int, list[Tensor]] = {}
    remaining = iter(batches)
    while True:
        batch = next(remaining, None)
        if not any(any_true(batch is not None)):
            break
        if batch is not None:
            numbers, clips = batch
            for index, output in zip(numbers.tolist(), per_window(clips).float().cpu(), strict=True):
                windows.setdefault(index, []).append(output)
        after_each()
    stacked = ((index, torch.stack(outputs)) for index, outputs in windows.items())
    own = [(index, one.amax(dim=0) if largest else one.mean(dim=0)) for index, one in stacked]
    rows = sorted((row for part in all_gather_object(own) for row in part), key=lambda row: row[0])
    indices = [index for index, _ in rows]
    if indices != list(range(count)):
        twice = sorted({index for index in indices if indices.count(index) > 1})
        missing = sorted(set(range(count)) - set(indices))
        raise ValueError(f"vectors of {count} videos: missing {missing[:5]}, twice {twice[:5]}, got {len(rows)} in all")
    return torch.stack([vector for _, vector in rows])
