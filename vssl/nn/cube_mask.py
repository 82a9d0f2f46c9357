"""Which patches of a clip MaskFeat hides: cubes, each a set of rectangles in some frames in a row.

Source: MaskFeat (Wei et al., CVPR 2022, arXiv:2112.09133), in the form of VideoTransformer-pytorch, with the rectangles
of BEiT (arXiv:2106.08254).
"""

import math
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

_ATTEMPTS = 10  # at a rectangle
_ASPECT = (0.3, 1 / 0.3)

Cube = tuple[int, int]  # first frame, number of frames, in tokens


@dataclass(frozen=True)
class CubeMask:
    """What is hidden of a clip: `hidden` (t, h, w) booleans, in `cubes`. A frame is in one cube at most."""

    hidden: NDArray[np.bool_]
    cubes: tuple[Cube, ...]

    def centres(self, tubelet_size: int) -> list[int]:
        """Source frames in the middle of the cubes, of which alone the targets are predicted."""
        return [(2 * start + length) * tubelet_size // 2 for start, length in self.cubes]


def draw_cube_mask(grid: tuple[int, int, int], *, frames: int, patches: int, smallest: int, random: Random) -> CubeMask:
    """Draw cubes until so many frames have a mask.

    Args:
        grid: t, h, w of the clip in tokens.
        frames: how many of the t are to be masked; at least 1.
        patches: how many of a frame's are to be; what no rectangle fits into stays free.
        smallest: patches of the smallest rectangle that is tried.
        random: Python's generator, as the original draws from it.
    """
    length, height, width = grid
    hidden, cubes, covered = np.zeros(grid, dtype=bool), [], 0
    taken = np.zeros(length, dtype=bool)
    while covered < frames:
        mask = _rectangles(height, width, patches, smallest, random)
        start = random.randint(0, length)  # one more than there are: then nothing is masked, as in the original
        wanted = random.randint(1, frames - covered)
        end = start
        while end < min(length, start + wanted) and not taken[end]:
            hidden[end] = mask
            taken[end] = True
            end += 1
        if end > start:
            cubes.append((start, end - start))
            covered += end - start
    return CubeMask(hidden, tuple(cubes))


def _rectangles(height: int, width: int, patches: int, smallest: int, random: Random) -> NDArray[np.bool_]:
    """(h, w) booleans: rectangles until `patches` are hidden, or none is found that hides more and not too many."""
    mask = np.zeros((height, width), dtype=bool)
    found = 0
    while found < patches and (added := _add_rectangle(mask, patches - found, smallest, random)):
        found += added
    return mask


def _add_rectangle(mask: NDArray[np.bool_], most: int, smallest: int, random: Random) -> int:
    """Hide one more rectangle; how many patches that newly hides, 0 if no attempt succeeds."""
    height, width = mask.shape
    for _ in range(_ATTEMPTS):
        area = random.uniform(smallest, most)
        aspect = math.exp(random.uniform(*(math.log(bound) for bound in _ASPECT)))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h >= height or w >= width:
            continue
        top, left = random.randint(0, height - h), random.randint(0, width - w)
        box = mask[top : top + h, left : left + w]
        added = h * w - int(box.sum())
        if 0 < added <= most:
            box[:] = True
            return added
    return 0
