"""Colours, blur and flip of cropped clips: one clip where it is read, or a batch at once on the GPU that trains.

Both do the same with the same draws; values may differ by a level of 255 where sums are rounded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vssl.data.views import augment
from vssl.data.views.augment import JitterDraw
from vssl.data.views.rand_augment import Operation, operate

_GREY = (0.2989, 0.587, 0.114)  # torchvision's weights of red, green and blue


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was drawn for a view after its crop."""

    jitter: JitterDraw | None = None
    grey_channels: tuple[int, ...] | None = None  # of each modality's frames
    luma: Literal["before", "after"] | None = None  # grey as the eye has it, before the jitter or after it
    blur_sigma: float | None = None
    blur_each: bool = False  # after each operation of the jitter, and not once after all
    flip: bool = False
    operations: tuple[Operation, ...] = ()  # RandAugment's

    def apply(self, planes: Tensor, modality: int) -> Tensor:
        """(T, 3, S, S) uint8 -> the same, of this look; modality 0 is RGB, 1 is flow."""
        if self.luma == "before":
            planes = augment.luma(planes)
        if self.jitter is not None:
            planes = augment.jitter(planes, self.jitter, blur_sigma=self.blur_sigma if self.blur_each else None)
        if self.grey_channels is not None:
            planes = augment.grey(planes, torch.tensor(self.greys(modality, len(planes))))
        if self.luma == "after":
            planes = augment.luma(planes)
        if self.blur_sigma is not None and not self.blur_each:
            planes = augment.blur(planes, self.blur_sigma)
        return operate(augment.flip(planes) if self.flip else planes, self.operations)

    def greys(self, modality: int, length: int) -> tuple[int, ...]:
        """The channel that each of a modality's frames shows, of a grey view."""
        assert self.grey_channels is not None
        return self.grey_channels[modality * length : (modality + 1) * length]


def apply_looks(views: Tensor, looks: Sequence[Look], modality: int) -> Tensor:
    """Give each view of a batch its own look, on the device where it lies.

    Args:
        views: (N, 3, T, S, S) uint8; its memory is written to.
        looks: of the N views.
        modality: 0 is RGB, 1 is flow.
    """
    planes = views.transpose(1, 2)  # (N, T, 3, S, S), the same memory
    length = planes.shape[1]
    for rows, change in (
        (_grey_where(looks, "before"), lambda some, of: _luma(some)),
        (_having(looks, "jitter"), _jitter),
        (_having(looks, "grey_channels"), lambda some, of: _grey(some, [look.greys(modality, length) for look in of])),
        (_grey_where(looks, "after"), lambda some, of: _luma(some)),
        ([row for row in _having(looks, "blur_sigma") if not looks[row].blur_each], _blur),
        ([number for number, look in enumerate(looks) if look.flip], lambda some, of: some.flip(-1)),
        ([number for number, look in enumerate(looks) if look.operations], _operate),
    ):
        if rows:
            planes[rows] = change(planes[rows], [looks[row] for row in rows])
    return views


def _having(looks: Sequence[Look], field: str) -> list[int]:
    return [number for number, look in enumerate(looks) if getattr(look, field) is not None]


def _grey_where(looks: Sequence[Look], place: str) -> list[int]:
    return [number for number, look in enumerate(looks) if look.luma == place]


def _jitter(planes: Tensor, looks: Sequence[Look]) -> Tensor:
    draws = [look.jitter for look in looks if look.jitter is not None]
    factors = torch.tensor([(d.brightness, d.contrast, d.saturation, d.hue) for d in draws], device=planes.device)
    blurred = [row for row, look in enumerate(looks) if look.blur_each]
    values = planes.float()
    for place in range(len(_OPERATIONS)):
        for number, operation in enumerate(_OPERATIONS):
            rows = [row for row, draw in enumerate(draws) if draw.order[place] == number]
            if rows:
                factor = factors[rows, number].view(-1, 1, 1, 1, 1)
                if operation is _contrast and draws[rows[0]].whole_clip:  # as of one config all are
                    operation = _clip_contrast
                values[rows] = operation(values[rows], factor).clamp_(0, 255).floor_()  # as stored in 8 bits
        if blurred:
            values[blurred] = _blur(values[blurred], [looks[row] for row in blurred]).float()
    return values.to(torch.uint8)


def _brightness(values: Tensor, factor: Tensor) -> Tensor:
    return values * factor


def _contrast(values: Tensor, factor: Tensor) -> Tensor:
    return values * factor + _grey_of(values).mean(dim=(-3, -2, -1), keepdim=True) * (1 - factor)


def _clip_contrast(values: Tensor, factor: Tensor) -> Tensor:
    return values * factor + _grey_of(values).mean(dim=(-4, -3, -2, -1), keepdim=True) * (1 - factor)


def _saturation(values: Tensor, factor: Tensor) -> Tensor:
    return values * factor + _grey_of(values) * (1 - factor)


def _hue(values: Tensor, factor: Tensor) -> Tensor:
    return augment.with_turned_hue(values, factor[..., 0])


_OPERATIONS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (_brightness, _contrast, _saturation, _hue)


def _grey_of(values: Tensor) -> Tensor:
    """(N, T, 3, S, S) -> (N, T, 1, S, S) whole levels."""
    red, green, blue = values.unbind(-3)
    return (red * _GREY[0] + green * _GREY[1] + blue * _GREY[2]).floor_().unsqueeze(-3)


def _grey(planes: Tensor, channels: Sequence[tuple[int, ...]]) -> Tensor:
    at = torch.tensor(channels, device=planes.device)[..., None, None, None]  # (N, T, 1, 1, 1)
    return planes.gather(2, at.expand(-1, -1, 1, *planes.shape[-2:])).expand(-1, -1, 3, -1, -1)


def _luma(planes: Tensor) -> Tensor:
    return _grey_of(planes.float()).to(torch.uint8).expand(-1, -1, 3, -1, -1)


def _operate(planes: Tensor, looks: Sequence[Look]) -> Tensor:
    """One by one and on the CPU, where PIL computes: a config that wants many of them had better look there."""
    return torch.stack([operate(one.cpu(), look.operations) for one, look in zip(planes, looks)]).to(planes.device)


def _blur(planes: Tensor, looks: Sequence[Look]) -> Tensor:
    def weights(size: int) -> Tensor:
        each = [augment.gaussian(size, look.blur_sigma) for look in looks if look.blur_sigma is not None]
        return torch.stack(each).to(planes.device)[:, None, None]  # (N, 1, 1, size, size)

    height, width = planes.shape[-2:]
    blurred = weights(height) @ planes.float() @ weights(width).mT
    return blurred.round_().clamp_(0, 255).to(torch.uint8)
