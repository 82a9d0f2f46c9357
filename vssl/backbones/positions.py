"""Tables of positions and times: fixed ones, and learned ones that are resized for other clips."""

import torch
import torch.nn.functional as F
from torch import Tensor


def sines_and_cosines(length: int, dim: int) -> Tensor:
    """(length, dim) fixed positions: sines in even columns, cosines in odd ones (Vaswani et al., arXiv:1706.03762)."""
    column = torch.arange(dim, dtype=torch.float64)
    angles = torch.arange(length, dtype=torch.float64)[:, None] / 10000 ** (2 * (column // 2) / dim)
    return torch.where(column % 2 == 0, angles.sin(), angles.cos()).float()


def resized_positions(table: Tensor, height: int, width: int) -> Tensor:
    """(1, 1 + s s, D) -> (1, 1 + h w, D): the class token keeps its position."""
    return torch.cat([table[:, :1], resized_squares(table[:, 1:], height, width)], dim=1)


def resized_squares(table: Tensor, height: int, width: int) -> Tensor:
    """Positions (1, s s, D) of a square of patches for an image of height x width patches: (1, h w, D), bicubically.

    By the public code's factors. Rows go with the height: that code takes them for columns, which scrambles the
    positions of images that are not square.
    """
    side = round(table.shape[1] ** 0.5)
    if (height, width) == (side, side):
        return table
    square = torch.unflatten(table, 1, (side, side)).permute(0, 3, 1, 2)  # (1, D, s, s)
    factors = ((height + 0.1) / side, (width + 0.1) / side)  # a tenth more, or rounding loses a row
    return F.interpolate(square, scale_factor=factors, mode="bicubic").flatten(2).transpose(1, 2)


def resized_times(table: Tensor, frames: int) -> Tensor:
    """(1, t, D) -> (1, frames, D), linearly."""
    if table.shape[1] == frames:
        return table
    return F.interpolate(table.transpose(1, 2), size=frames, mode="linear").transpose(1, 2)
