"""What happens to pixels once every random decision is taken. Frames are (T, 3, H, W) uint8; nothing is drawn here.

One call treats a whole clip, so all frames of a clip, and both its modalities, get the same crop, flip and colours.
Source: ViCC (Toering et al., WACV 2022) and its public code; resizing is bicubic with antialiasing, as PIL's.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as colour

from vssl.data.crops import Box

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]  # mean and deviation of R, G, B in 0..1
Resampling = Literal["bicubic", "bilinear"]

IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # for optical flow too
KINETICS: Statistics = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
HALF: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
STATISTICS: dict[str, Statistics] = {"imagenet": IMAGENET, "kinetics": KINETICS, "half": HALF}

_TO_LEVELS = 255.999 / 255  # whole levels are cut off and not rounded, as torchvision has it


@dataclass(frozen=True)
class JitterDraw:
    """Factors of a colour jitter and the order of its operations: 0 brightness, 1 contrast, 2 saturation, 3 hue."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    order: tuple[int, ...]
    whole_clip: bool = False  # contrast is turned around the grey of the clip and not of each frame


def to_planes(frames: Tensor) -> Tensor:
    """(T, H, W, 3) as decoded -> (T, 3, H, W), without copying."""
    return frames.permute(0, 3, 1, 2)


def to_view(planes: Tensor) -> Tensor:
    """(T, 3, S, S) -> (3, T, S, S)."""
    return planes.transpose(0, 1).contiguous()


def normalise(views: Tensor, statistics: Statistics = IMAGENET) -> Tensor:
    """(..., 3, T, H, W) uint8 -> float32 with this mean and deviation, on the tensor's device."""
    mean, std = (torch.tensor(values, device=views.device).view(3, 1, 1, 1) for values in statistics)
    return (views.float() / 255 - mean) / std


def crop(planes: Tensor, box: Box) -> Tensor:
    top, left, height, width = box
    return planes[..., top : top + height, left : left + width]


def resize(planes: Tensor, height: int, width: int, mode: Resampling = "bicubic", *, antialias: bool = True) -> Tensor:
    """To this size; aspect ratio is not kept. FGKVMem, STS and CARL resize `bilinear` and without antialiasing."""
    if planes.shape[-2:] == (height, width):
        return planes
    return F.interpolate(planes, size=(height, width), mode=mode, antialias=antialias)


def resize_short_side(planes: Tensor, side: int) -> Tensor:
    """Resize so that the shorter side has `side` pixels; the longer one is rounded down."""
    height, width = planes.shape[-2:]
    short = min(height, width)
    return resize(planes, side * height // short, side * width // short)


def centre_crop(planes: Tensor, side: int) -> Tensor:
    """The central square; a frame narrower than it is padded with black."""
    height, width = planes.shape[-2:]
    top, left = round((height - side) / 2), round((width - side) / 2)
    pad = (max(-left, 0), max(left + side - width, 0), max(-top, 0), max(top + side - height, 0))
    return crop(F.pad(planes, pad), (max(top, 0), max(left, 0), side, side))


def five_crops(planes: Tensor, side: int) -> tuple[Tensor, ...]:
    """Squares at top left, top right, bottom left, bottom right and centre.

    Raises:
        ValueError: the frame is smaller than the crop.
    """
    height, width = planes.shape[-2:]
    if min(height, width) < side:
        raise ValueError(f"frames of {height}x{width} hold no crop of {side}; resize the short side first")
    low, right = height - side, width - side
    corners = tuple(crop(planes, (top, left, side, side)) for top in (0, low) for left in (0, right))
    return (*corners, centre_crop(planes, side))


def flip(planes: Tensor) -> Tensor:
    """Mirror left and right. Flow keeps its sign, as in the original."""
    return planes.flip(-1)


def jitter(planes: Tensor, draw: JitterDraw, *, blur_sigma: float | None = None) -> Tensor:
    """Colours, operation by operation; with `blur_sigma` a blur follows each of them."""
    operations = (
        lambda x: colour.adjust_brightness(x, draw.brightness),
        lambda x: (
            _adjust_clip_contrast(x, draw.contrast) if draw.whole_clip else colour.adjust_contrast(x, draw.contrast)
        ),
        lambda x: colour.adjust_saturation(x, draw.saturation),
        lambda x: turn_hue(x, draw.hue),
    )
    planes = planes.contiguous()  # as decoded, colours lie side by side: three times slower
    for index in draw.order:
        planes = operations[index](planes)
        if blur_sigma is not None:
            planes = blur(planes, blur_sigma)
    return planes


def _adjust_clip_contrast(planes: Tensor, factor: float) -> Tensor:
    """As of all frames on top of one another in one tall image, which is how PySlowFast has a clip jittered as one."""
    frames, _, height, width = planes.shape
    tall = planes.transpose(0, 1).reshape(3, frames * height, width)
    adjusted: Tensor = colour.adjust_contrast(tall, factor)
    return adjusted.view(3, frames, height, width).transpose(0, 1)


def turn_hue(planes: Tensor, shift: float) -> Tensor:
    """Turn all colours by this share of the colour circle; brightest and darkest channel keep their values.

    What torchvision's adjust_hue does by way of HSV, to one level of 255, in less than half its time.
    """
    return with_turned_hue(planes.float(), shift).to(torch.uint8)


def with_turned_hue(values: Tensor, shift: Tensor | float) -> Tensor:
    """`turn_hue` of whole levels as floats, before they are cut off; `shift` broadcasts over all but the channels."""
    red, green, blue = values.unbind(-3)
    top = torch.maximum(torch.maximum(red, green), blue)
    chroma = top - torch.minimum(torch.minimum(red, green), blue)
    width = chroma.clamp(min=1)  # values are whole: where it is 0, so is every difference
    place = torch.where(
        top == red,
        (green - blue) / width,
        torch.where(top == green, (blue - red) / width + 2, (red - green) / width + 4),
    )
    place += 6 * shift  # on the circle of six colours: 0 red, 2 green, 4 blue
    turned = torch.empty_like(values)
    for channel, start in enumerate((5, 3, 1)):
        away = torch.remainder(place + start, 6)
        turned[..., channel, :, :] = (top - chroma * torch.minimum(away, 4 - away).clamp_(0, 1)) * _TO_LEVELS
    return turned


def grey(planes: Tensor, channels: Tensor) -> Tensor:
    """One colour channel of each frame, copied to all three.

    Args:
        planes: (T, 3, H, W).
        channels: (T,) which one, frame by frame.
    """
    one = planes.gather(1, channels.view(-1, 1, 1, 1).expand(-1, 1, *planes.shape[-2:]))  # (T, 1, H, W)
    return one.expand(-1, 3, -1, -1)


def luma(planes: Tensor) -> Tensor:
    """Grey as the eye has it, in all three channels."""
    grey: Tensor = colour.rgb_to_grayscale(planes, num_output_channels=3)
    return grey


def blur(planes: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, edges repeated. The original's PIL approximates the same Gaussian by three box filters.

    As two products with band matrices: on one core ten times as fast as convolving.
    """
    height, width = planes.shape[-2:]
    blurred = gaussian(height, sigma) @ planes.float() @ gaussian(width, sigma).T
    return blurred.round_().clamp_(0, 255).to(torch.uint8)


def gaussian(size: int, sigma: float) -> Tensor:
    """(size, size): row i holds the weights of all pixels of a line in the blurred pixel i."""
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    taken = (torch.arange(size)[:, None] + offsets).clamp(0, size - 1)
    return torch.zeros(size, size).scatter_add_(1, taken, (kernel / kernel.sum()).expand(size, -1))
