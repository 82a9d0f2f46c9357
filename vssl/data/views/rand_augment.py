"""RandAugment: what is drawn for a view, and what its operations do to frames. All frames of a clip get the same.

Sources: Cubuk et al. 2020 (arXiv:1909.13719); the ranges and the increasing variant of timm, with which STS (Li et al.,
ECCV 2022) trains on images, and torchvision's. Both compute with PIL, and so is done here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Generator, Tensor

from vssl.data.views.rand_augment_config import RandAugmentConfig

_GREY = (124, 116, 104)  # ImageNet's mean, which fills what is turned or pushed into view
_DARK = 128  # below it SolarizeAdd adds


@dataclass(frozen=True)
class Operation:
    """One drawn operation.

    `value` is in the operation's own unit: degrees, bits kept, a level of 255, a factor, or a share of a side.
    """

    name: str
    value: float = 0.0
    nearest: bool = False  # geometry: nearest pixels on black, else bicubic on grey


def draw_operations(config: RandAugmentConfig, generator: Generator) -> tuple[Operation, ...]:
    """The operations on one view. Everything is drawn whether it is used or not."""
    space = _INCREASING if config.space == "increasing" else _TORCHVISION
    names = list(space)
    drawn = []
    for _ in range(config.operations):
        number = int(torch.randint(len(names), (), generator=generator))
        coin, sign = torch.rand(2, generator=generator).tolist()
        noise = config.magnitude_std * torch.randn((), generator=generator).item()
        strength = min(max(config.magnitude + noise, 0), config.strongest) / config.strongest
        if coin < config.probability:
            name = names[number]
            value = space[name](strength, -1 if sign < 0.5 else 1)
            drawn.append(Operation(name, value, nearest=config.space == "torchvision"))
    return tuple(drawn)


def operate(planes: Tensor, operations: tuple[Operation, ...]) -> Tensor:
    """(T, 3, H, W) uint8 -> the same, on the CPU, after the operations one by one."""
    if not operations:
        return planes
    frames = planes.permute(0, 2, 3, 1).contiguous().numpy()  # (T, H, W, 3)
    pictures = [Image.fromarray(frame) for frame in frames]
    for operation in operations:
        pictures = [_operate(picture, operation) for picture in pictures]
    changed = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return changed.permute(0, 3, 1, 2).contiguous()


Value = Callable[[float, int], float]  # strength from 0 to 1, sign -> value of the operation


def _signed(most: float) -> Value:
    return lambda strength, sign: sign * most * strength


def _factor(strength: float, sign: int) -> float:
    return 1 + sign * 0.9 * strength  # at least a tenth: nothing turns a picture black


_INCREASING: dict[str, Value] = {
    "autocontrast": lambda strength, sign: 0.0,
    "equalize": lambda strength, sign: 0.0,
    "invert": lambda strength, sign: 0.0,
    "rotate": _signed(30.0),
    "posterize": lambda strength, sign: 4 - int(4 * strength),
    "solarize": lambda strength, sign: 256 - int(256 * strength),
    "solarize_add": lambda strength, sign: int(110 * strength),
    "colour": _factor,
    "contrast": _factor,
    "brightness": _factor,
    "sharpness": _factor,
    "shear_x": _signed(0.3),
    "shear_y": _signed(0.3),
    "translate_x": _signed(0.45),
    "translate_y": _signed(0.45),
}
_TORCHVISION: dict[str, Value] = {
    "identity": lambda strength, sign: 0.0,
    "shear_x": _signed(0.3),
    "shear_y": _signed(0.3),
    "translate_x": _signed(150 / 331),
    "translate_y": _signed(150 / 331),
    "rotate": _signed(30.0),
    "brightness": _factor,
    "colour": _factor,
    "contrast": _factor,
    "sharpness": _factor,
    "posterize": lambda strength, sign: 8 - round(4 * strength),
    "solarize": lambda strength, sign: 255 * (1 - strength),
    "autocontrast": lambda strength, sign: 0.0,
    "equalize": lambda strength, sign: 0.0,
}

_ENHANCERS = {
    "colour": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "brightness": ImageEnhance.Brightness,
    "sharpness": ImageEnhance.Sharpness,
}


def _operate(picture: Image.Image, operation: Operation) -> Image.Image:
    name, value = operation.name, operation.value
    if name in _ENHANCERS:
        return _ENHANCERS[name](picture).enhance(value)
    if name == "autocontrast":
        return ImageOps.autocontrast(picture)
    if name == "equalize":
        return ImageOps.equalize(picture)
    if name == "invert":
        return ImageOps.invert(picture)
    if name == "posterize":
        return _posterize(picture, int(value))
    if name == "solarize":
        return ImageOps.solarize(picture, math.ceil(value))  # levels are whole
    if name == "solarize_add":
        return picture.point(lambda level: min(255, level + int(value)) if level < _DARK else level)
    return picture if name == "identity" else _move(picture, operation)


def _posterize(picture: Image.Image, bits: int) -> Image.Image:
    """PIL's own refuses to keep no bit at all, which the strongest magnitude asks for."""
    mask = 0xFF & ~(2 ** (8 - bits) - 1)
    return picture.point(lambda level: level & mask)


def _move(picture: Image.Image, operation: Operation) -> Image.Image:
    value = operation.value
    resample = Image.Resampling.NEAREST if operation.nearest else Image.Resampling.BICUBIC
    fill = (0, 0, 0) if operation.nearest else _GREY
    if operation.name == "rotate":
        return picture.rotate(value, resample=resample, fillcolor=fill)
    matrix = {  # of the place that a pixel comes from: x' = a x + b y + c, y' = d x + e y + f
        "shear_x": (1, value, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, value, 1, 0),
        "translate_x": (1, 0, _pixels(value * picture.width, operation), 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, _pixels(value * picture.height, operation)),
    }[operation.name]
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, resample=resample, fillcolor=fill)


def _pixels(distance: float, operation: Operation) -> float:
    """torchvision moves by whole pixels."""
    return int(distance) if operation.nearest else distance
