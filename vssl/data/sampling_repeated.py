"""An epoch's order in which every item comes several times, each time augmented anew.

Source: repeated augmentation (Berman et al., arXiv:1902.05509), as in the public code of STS (Li et al., ECCV 2022).
"""

from collections.abc import Sequence


def repeated_order(
    permutation: Sequence[int], rank: int, world_size: int, *, repeats: int = 3, rounding: int = 256
) -> list[int]:
    """The items of one rank: an epoch shows about as many as there are, but only one in `repeats` is distinct.

    The original needs several processes; one is the same with a world of 1.

    Args:
        permutation: all items, shuffled; equal on all ranks.
        rank, world_size: which share.
        repeats: how often each item comes, its repeats on neighbouring ranks.
        rounding: an epoch has the largest multiple of it that the items allow.
    """
    repeated = [item for item in permutation for _ in range(repeats)]
    repeated += repeated[: -len(repeated) % world_size]
    shown = len(permutation) // rounding * rounding // world_size
    return repeated[rank::world_size][:shown]
