"""Where crops lie: boxes in pixels, as pure arithmetic. No pixel is touched here and nothing is drawn.

Sources: ViCC (Toering et al., WACV 2022), FGKVMem (Li et al., ACM Multimedia 2023), STS (Li et al., ECCV 2022) and CARL
(Chen et al., CVPR 2022), whose public codes round differently; where it matters a parameter says which way.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Box = tuple[int, int, int, int]  # top, left, height, width
Rounding = Literal["down", "nearest"]
Halves = Literal["down", "nearest", "even"]


@dataclass(frozen=True)
class CropDraw:
    """One attempt at a random sized crop, free of the frame's size."""

    area: float  # share of the frame
    aspect: float  # width over height
    swap: bool  # exchange width and height
    left: float  # in [0, 1)
    top: float  # in [0, 1)

    def box(self, height: int, width: int) -> Box | None:
        """The crop in pixels, or None where it does not fit into the frame."""
        area = self.area * height * width
        w, h = max(1, round(math.sqrt(area * self.aspect))), max(1, round(math.sqrt(area / self.aspect)))
        if self.swap:
            w, h = h, w
        if w > width or h > height:
            return None
        return int(self.top * (height - h + 1)), int(self.left * (width - w + 1)), h, w


def first_box(crops: Iterable[CropDraw], height: int, width: int) -> Box | None:
    """The first attempt that fits into a frame."""
    return next((box for crop in crops if (box := crop.box(height, width)) is not None), None)


def scaled_size(height: int, width: int, side: int, rounding: Rounding = "down") -> tuple[int, int]:
    """(height, width) of a frame whose shorter side is scaled to `side`.

    The longer side is rounded `down` as FGKVMem has it, or to the `nearest` whole number as STS has it.
    """
    short, long = min(height, width), max(height, width)
    if rounding == "nearest":
        other = int(long * (side / short) + 0.5)
    else:  # in floats like the original: 115 over 100 at side 100 is 114 there, and so it is here
        other = long if short == side else math.floor(long / short * side)
    return (side, other) if height <= width else (other, side)


def three_crops(height: int, width: int, side: int, *, halves: Halves = "down", even: bool = False) -> list[Box]:
    """Squares at the start, the middle and the end of the longer side (the width, of a square frame).

    Args:
        height, width: of the frame; neither is smaller than `side`.
        side: of the squares.
        halves: which pixel the middle begins at where half of one remains: the one below, `down` (STS); the one above,
            `nearest` (FGKVMem); or whichever is `even` (torchvision's centre crop).
        even: the last square begins at twice the middle's offset, a pixel before the end where that is odd (STS).

    Raises:
        ValueError: the frame holds no such square.
    """
    if min(height, width) < side:
        raise ValueError(f"frames of {height}x{width} hold no crop of {side}; resize the short side first")
    top, left, _, _ = centre_box(height, width, side, side, halves=halves)
    if height > width:
        return [(y, left, side, side) for y in (0, top, 2 * top if even else height - side)]
    return [(top, x, side, side) for x in (0, left, 2 * left if even else width - side)]


def centre_box(height: int, width: int, crop_height: int, crop_width: int, *, halves: Halves = "down") -> Box:
    """A crop in the middle of a frame that is no smaller; `halves` as in `three_crops` (CARL: `nearest`)."""
    return _half(height - crop_height, halves), _half(width - crop_width, halves), crop_height, crop_width


def _half(room: int, halves: Halves) -> int:
    return round(room / 2) if halves == "even" else (room + (halves == "nearest")) // 2


def widest_box(height: int, width: int, narrowest: float, widest: float) -> Box:
    """The largest crop in the middle whose aspect, width over height, is within bounds: where no random one fits."""
    aspect = width / height
    if aspect < narrowest:
        return centre_box(height, width, round(width / narrowest), width)
    if aspect > widest:
        return centre_box(height, width, height, round(height * widest))
    return 0, 0, height, width


def before_resize(box: Box, resized: tuple[int, int], original: tuple[int, int]) -> Box:
    """The crop of the original frame that equals a crop of the resized one, in whole pixels.

    So that a resize and a crop after it cost one crop and one resize. Edges are rounded to the nearest pixel, halves to
    even.
    """
    down, right = original[0] / resized[0], original[1] / resized[1]
    top, bottom = round(box[0] * down), round((box[0] + box[2]) * down)
    left, end = round(box[1] * right), round((box[1] + box[3]) * right)
    return top, left, bottom - top, end - left
