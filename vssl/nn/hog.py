"""Histograms of oriented gradients of whole clips at once, on the device that trains.

Source: Dalal and Triggs, CVPR 2005, as MaskFeat takes them (Wei et al., CVPR 2022, arXiv:2112.09133, section 3.2).
"""

import torch
from torch import Tensor

_CELL = 8  # pixels
_BINS = 9  # of 20 degrees; opposite directions are one
_EPS = 1e-10  # under the root of a cell's length, for intensities from 0 to 255


def hog_cells(planes: Tensor) -> Tensor:
    """Histograms of the 8 x 8 pixel cells of single-channel images.

    Args:
        planes: (..., H, W) intensities from 0 to 255.

    Returns:
        (..., H / 8, W / 8, 9) unit vectors, the contrast of each cell in 9 directions; 0 where it is flat. Each pixel
        counts for one direction, as in scikit-image, and those on the border have no contrast across it.

    Raises:
        ValueError: sides that are no multiple of 8.
    """
    height, width = planes.shape[-2:]
    if height % _CELL or width % _CELL:
        raise ValueError(f"images of {height}x{width} do not divide into cells of {_CELL}; crop them to a multiple")
    down, right = torch.zeros_like(planes), torch.zeros_like(planes)
    down[..., 1:-1, :] = planes[..., 2:, :] - planes[..., :-2, :]
    right[..., 1:-1] = planes[..., 2:] - planes[..., :-2]
    length = torch.hypot(down, right)
    angle = torch.rad2deg(torch.atan2(down, right)) % 180
    bins = (angle * (_BINS / 180)).long().clamp(max=_BINS - 1)  # rounding may reach 180
    grid = (*planes.shape[:-2], height // _CELL, _CELL, width // _CELL, _CELL)
    lengths, places = (t.reshape(grid).transpose(-3, -2).flatten(-2) for t in (length, bins))  # (..., h, w, 64)
    histogram = lengths.new_zeros(*lengths.shape[:-1], _BINS).scatter_add_(-1, places, lengths / _CELL**2)
    return histogram / torch.sqrt(histogram.square().sum(dim=-1, keepdim=True) + _EPS)


def hog_targets(frames: Tensor, patch: int = 16) -> Tensor:
    """What MaskFeat predicts of each patch: the histograms of its cells in every colour.

    Args:
        frames: (..., 3, H, W) intensities from 0 to 255.
        patch: side of a patch, pixels.

    Returns:
        (..., H / patch, W / patch, cells * 27), ordered by row and column of the cell, then colour, then direction.
    """
    side = patch // _CELL
    cells = hog_cells(frames)  # (..., 3, h, w, 9)
    *batch, colours, height, width, bins = cells.shape
    split = cells.reshape(-1, colours, height // side, side, width // side, side, bins)
    targets = split.permute(0, 2, 4, 3, 5, 1, 6)  # (N, rows, columns, dh, dw, colour, direction)
    return targets.reshape(*batch, height // side, width // side, -1)
