"""One vector per video from a frozen network: its windows, one by one or in chunks, averaged.

A video's windows are never mixed with another video's in a forward, so a result does not depend on its neighbours.
"""

from collections.abc import Callable, Iterable
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from vssl.distributed import all_gather_object, rank, world_size

PerWindow = Callable[[Tensor], Tensor]  # (n, 3, T, H, W) -> (n, D)


def unit(features: Tensor) -> Tensor:
    """L2-normalised rows, in float32."""
    return F.normalize(features.float(), dim=1)


@torch.no_grad()
def mean_over_windows(
    per_window: PerWindow,
    videos: Iterable[tuple[int, Tensor]],
    count: int,
    *,
    chunk: int,
    device: torch.device,
    after_each: Callable[[], None] = lambda: None,
) -> Tensor:
    """Average a network's output over all windows of each video.

    With several ranks, `videos` yields this rank's share (`own_share`); every rank gets the whole result.

    Args:
        per_window: network in eval mode with whatever follows it, such as L2 or softmax per window.
        videos: (index, (n, 3, T, H, W)) in any order, each index once.
        count: number of videos over all ranks.
        chunk: windows per forward.
        device: where the network is.
        after_each: called after each video, for signs of life and requests to stop; equally often on all ranks.

    Returns:
        (count, D) float32 on the CPU, row i for the video of index i.

    Raises:
        ValueError: an index that is missing or came twice.
    """
    found: list[tuple[int, Tensor]] = []
    remaining = iter(videos)
    for _ in range(-(-count // world_size())):  # the busiest rank's number of videos
        for index, windows in islice(remaining, 1):
            outputs = [per_window(part.to(device, non_blocking=True)).float() for part in windows.split(chunk)]
            found.append((index, torch.cat(outputs).mean(dim=0).cpu()))
        after_each()
    rows = [row for part in all_gather_object(found) for row in part]
    indices = sorted(index for index, _ in rows)
    if indices != list(range(count)):
        twice = sorted({index for index in indices if indices.count(index) > 1})
        missing = sorted(set(range(count)) - set(indices))
        raise ValueError(
            f"features of {count} videos: missing {missing[:5]}, twice {twice[:5]}, got {len(rows)} in all"
        )
    return torch.stack([vector for _, vector in sorted(rows, key=lambda row: row[0])])


def own_share(count: int) -> list[int]:
    """Indices of the videos that this rank evaluates."""
    return list(range(rank(), count, world_size()))
