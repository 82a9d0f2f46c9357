"""A labelled set of image files, made here: classes differ by the outline of an object.

Textures are those of the generated videos, of object and background alike, so that no colour says what the object is.
Every outline is shown in any size and turn, and is its own mirror image.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vssl.data.generated.images_config import GeneratedImagesConfig
from vssl.data.generated.motions import NOISE, bilinear, made_whole, texture

Plane = NDArray[np.float64]  # (H, W)
Outline = Callable[[Plane, Plane], Plane]  # how far outside of it a point is, roughly; the object is about 1 large


def _cross(u: Plane, v: Plane) -> Plane:
    bars: Plane = np.minimum(np.maximum(np.abs(u), 3 * np.abs(v)), np.maximum(3 * np.abs(u), np.abs(v)))
    return bars - 1


def _star(u: Plane, v: Plane) -> Plane:
    points: Plane = 0.75 + 0.3 * np.cos(5 * np.arctan2(u, -v))
    distance: Plane = np.hypot(u, v)
    return distance - points


OUTLINES: dict[str, Outline] = {
    "disc": lambda u, v: np.hypot(u, v) - 0.9,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.8,
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.75) - 0.25,
    "cross": _cross,
    "bar": lambda u, v: np.maximum(np.abs(u), 3.5 * np.abs(v)) - 1.1,
    "star": _star,
    "triangle": lambda u, v: np.maximum(v - 0.6, 1.7 * np.abs(u) - v - 0.9) * 0.7,
    "crescent": lambda u, v: np.maximum(np.hypot(u, v) - 0.95, 0.75 - np.hypot(u, v + 0.5)),
}


def generate_images(config: GeneratedImagesConfig, root: Path, say: Callable[[str], None]) -> None:
    """Make the set at `root` as <split>/<class>/<name>.png, whole or not at all; does nothing where it exists.

    Raises:
        ConfigError: no photographs are installed.
    """
    if root.is_dir():
        return
    counts = {"train": config.images_per_class_train, "val": config.images_per_class_val}
    names = list(OUTLINES)[: config.classes]
    wanted = [(split, name, number) for split in counts for number in range(counts[split]) for name in names]
    folders = [f"{split}/{name}" for split in counts for name in names]
    made_whole(root, folders, partial(_make, config), wanted, say, what="images")


def _make(config: GeneratedImagesConfig, root: Path, wanted: tuple[str, str, int]) -> None:
    split, name, number = wanted
    rng = np.random.default_rng([config.seed, split == "val", list(OUTLINES).index(name), number])
    Image.fromarray(draw(name, config.size, rng)).save(root / split / name / f"{name}-{number:04d}.png")


def draw(name: str, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(size, 4/3 size, 3) an object of this outline, somewhere."""
    height, width = size, size * 4 // 3
    rows, columns = np.mgrid[:height, :width].astype(float)
    corner = rng.uniform(0, 200, 2)
    picture = bilinear(texture(rng), rows + corner[0], columns + corner[1])
    radius, turn = size * rng.uniform(0.22, 0.4), rng.uniform(0, 2 * math.pi)
    down = rows - height / 2 - size * rng.uniform(-0.12, 0.12)
    right = columns - width / 2 - size * rng.uniform(-0.2, 0.2)
    v = (math.cos(turn) * down - math.sin(turn) * right) / radius
    u = (math.sin(turn) * down + math.cos(turn) * right) / radius
    cover = np.clip(0.5 - OUTLINES[name](u, v) * radius, 0, 1)[..., None]  # about one pixel of soft edge
    thing = bilinear(texture(rng), 1.5 * rows, 1.5 * columns) * rng.uniform(0.7, 1.3, 3)
    mixed = picture * (1 - cover) + thing * cover + rng.normal(0, NOISE, picture.shape)
    pixels: NDArray[np.uint8] = np.clip(mixed, 0, 255).round().astype(np.uint8)
    return pixels
