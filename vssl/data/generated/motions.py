"""A labelled set of real video files, made here: classes differ by motion alone.

A textured object moves before a textured, drifting background. Textures are cut from photographs that scikit-learn and
matplotlib ship. The n-th videos of all classes in a split share textures, sizes and camera, and a pose that is still
in one class is drawn from the range through which it moves in another, so a single frame says nothing about the class;
unless objects are given colours, of which each class has a typical one, as scenes and things go with actions in films.
Every class is its own mirror image: flipping left and right keeps the label.
"""

import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vssl.config import ConfigError
from vssl.data.dataset_config import GeneratedConfig
from vssl.data.decode import Frames, read_frames, write_video
from vssl.data.processes import in_processes
from vssl.progress import track

CLASSES = ("rise", "fall", "grow", "shrink", "spin", "sway", "circle", "bounce")
_SPLITS = ("train", "test")
_PHOTOGRAPHS = (
    ("sklearn.datasets", "images/china.jpg"),
    ("sklearn.datasets", "images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)
_REACH = 0.28  # how far an object moves to either side of its middle, share of the short side
_BRIGHT = 230.0  # of an object without texture, of 255
NOISE = 5.0  # deviation of the sensor noise, of 255

Pixels = NDArray[np.float64]  # (H, W, 3)
Tint = NDArray[np.float64]  # (3,)


@dataclass(frozen=True)
class Look:
    """What the n-th videos of all classes share."""

    height: int
    width: int
    frames: int
    fps: float
    encoder: tuple[tuple[str, str], ...]
    pixel_format: str


@dataclass(frozen=True)
class Pose:
    """Where an object is: offsets from the frame's middle in short sides, scale, angle in radians."""

    x: float
    y: float
    scale: float
    angle: float


def generate(config: GeneratedConfig, root: Path, say: Callable[[str], None]) -> None:
    """Make the set at `root` as <split>/<class>/<name>.mp4, whole or not at all; does nothing where it exists.

    Raises:
        ConfigError: no photographs are installed.
    """
    if root.is_dir():
        return
    counts = {"train": config.videos_per_class_train, "test": config.videos_per_class_test}
    wanted = [(split, label, n) for split in _SPLITS for n in range(counts[split]) for label in range(config.classes)]
    folders = [f"{split}/{name}" for split in _SPLITS for name in CLASSES[: config.classes]]
    made_whole(root, folders, partial(_make, config), wanted, say)


def made_whole(
    root: Path,
    folders: Sequence[str],
    make: Callable[[Path, Any], None],
    wanted: Sequence[Any],
    say: Callable[[str], None],
    finish: Callable[[Path], None] = lambda aside: None,
    what: str = "videos",
) -> None:
    """Fill a folder with files, whole or not at all.

    Args:
        root: the folder; it is not there yet.
        folders: inside of it, made before the files.
        make: (folder, one of `wanted`) -> writes a file; called in processes.
        wanted: a file each.
        say: takes lines for the person who watches.
        finish: writes what goes with all of them.
        what: they are, for messages.

    Raises:
        ConfigError: no photographs are installed.
    """
    _photographs()
    aside = root.with_name(f".{root.name}.{uuid.uuid4().hex}.tmp")
    for name in folders:
        (aside / name).mkdir(parents=True)
    try:
        made = in_processes(partial(make, aside), wanted, len(os.sched_getaffinity(0)))
        for _ in track(made, len(wanted), f"making {what}", say):
            pass
        finish(aside)
        try:
            aside.rename(root)
        except OSError:
            if not root.is_dir():  # else another process was faster, and made the same
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    say(f"made {len(wanted)} {what} in {root}")


def _make(config: GeneratedConfig, root: Path, wanted: tuple[str, int, int]) -> None:
    split, label, number = wanted
    look = draw_look(config, np.random.default_rng([config.seed, _SPLITS.index(split), number]))
    path = root / split / CLASSES[label] / f"{CLASSES[label]}-{number:03d}.mp4"
    frames = render(config, look, split, label, number)
    write_video(path, frames, codec="libx264", fps=look.fps, pixel_format=look.pixel_format, options=dict(look.encoder))


def draw_look(config: GeneratedConfig, rng: np.random.Generator) -> Look:
    """Sizes, lengths, rates and encodings; most videos are alike, some are odd in each of these."""
    height, width = config.size, config.size * 4 // 3 // 2 * 2
    odd = rng.random() < 0.2
    if odd:
        height, width = height + int(rng.integers(1, 9)), width + int(rng.integers(1, 20))
    elif rng.random() < 0.1:
        height, width = width, height  # upright
    frames = config.frames if rng.random() < 0.7 else int(config.frames * rng.uniform(0.8, 1.6))
    encoder = {"preset": "veryfast", "crf": "18", "g": str(rng.choice([6, 12, 30])), "bf": str(rng.choice([0, 0, 2]))}
    return Look(
        height=height,
        width=width,
        frames=frames,
        fps=float(rng.choice([25.0, 25.0, 30.0, 24.0, 15.0])),
        encoder=tuple(encoder.items()),
        pixel_format="yuv444p" if height % 2 or width % 2 else "yuv420p",
    )


def render(config: GeneratedConfig, look: Look, split: str, label: int, number: int) -> Iterator[Frames]:
    """(H, W, 3) uint8 frames of one video, shot after shot."""
    bounds = np.linspace(0, look.frames, config.shots + 1).round().astype(int)
    tint = _colour(config, split, label, number)
    for shot, (first, last) in enumerate(pairwise(bounds)):
        shared = np.random.default_rng([config.seed, _SPLITS.index(split), number, shot, 1])
        scene = Scene(look, config.drift, tint, shared)
        for pose in path_of(CLASSES[label], last - first, shared):
            yield scene.draw(pose, shared)


def _colour(config: GeneratedConfig, split: str, label: int, number: int) -> Tint:
    """Factors of red, green and blue that a video's object has in all of its shots."""
    if not config.typical:
        return np.ones(3)
    rng = np.random.default_rng([config.seed, _SPLITS.index(split), number, label, 2])
    if rng.random() >= config.typical:
        label = (label + int(rng.integers(1, config.classes))) % config.classes
    return 1 + 0.8 * np.cos(2 * math.pi * (label / config.classes - np.arange(3) / 3))  # hues evenly round the circle


def path_of(motion: str, frames: int, rng: np.random.Generator) -> list[Pose]:
    """Poses of one shot. The same numbers are drawn for every motion; a motion decides which of them move."""
    x, y, level, turn = rng.uniform(-1, 1, 4)  # the pose where it is still
    sign, phase, pace = rng.choice([-1.0, 1.0]), rng.uniform(0, 2 * math.pi), rng.uniform(0.8, 1.2)
    time = np.linspace(-1, 1, frames) * pace
    wave = 2 * math.pi * np.arange(frames) / 12 * pace + phase  # a period of about 12 frames
    still = np.zeros(frames)
    moves: dict[str, dict[str, Any]] = {
        "rise": {"y": -time},
        "fall": {"y": time},
        "grow": {"level": time},
        "shrink": {"level": -time},
        "spin": {"turn": turn + sign * 0.08 * pace * np.arange(frames)},
        "sway": {"x": np.sin(wave)},
        "circle": {"x": np.cos(wave), "y": sign * np.sin(wave)},
        "bounce": {"y": np.sin(wave)},
    }
    pose = {"x": x + still, "y": y + still, "level": level + still, "turn": turn + still} | moves[motion]
    return [
        Pose(_REACH * a, _REACH * b, 1.6 ** float(np.clip(c, -1.2, 1.2)), math.pi * d)
        for a, b, c, d in zip(pose["x"], pose["y"], pose["level"], pose["turn"])
    ]


class Scene:
    """Textures, outline and camera of one shot."""

    def __init__(self, look: Look, drift: float, tint: Tint, rng: np.random.Generator, *, plain: bool = False) -> None:
        self._look = look
        self._short = min(look.height, look.width)
        self._background = texture(rng)
        self._object = np.full((200, 200, 3), _BRIGHT) if plain else texture(rng)
        self._tint = tint * rng.uniform(0.7, 1.3, 3)
        self._corner = rng.uniform(0, 200, 2)
        self._drift = rng.normal(0, drift, 2)  # pixels per frame
        self._power = rng.choice([2.0, 4.0, 8.0])  # outline from disc to square
        self._age = 0
        self._rows, self._columns = np.mgrid[: look.height, : look.width].astype(float)

    def draw(self, pose: Pose, rng: np.random.Generator) -> Frames:
        shift = self._corner + self._age * self._drift
        self._age += 1
        picture = bilinear(self._background, self._rows + shift[0], self._columns + shift[1])
        down = self._rows - self._look.height / 2 - pose.y * self._short
        right = self._columns - self._look.width / 2 - pose.x * self._short
        cos, sin = math.cos(pose.angle), math.sin(pose.angle)
        v, u = (cos * down - sin * right) / pose.scale, (sin * down + cos * right) / pose.scale
        radius = 0.24 * self._short
        distance = ((np.abs(u) ** self._power + np.abs(v) ** self._power) ** (1 / self._power) - radius) * pose.scale
        cover = np.clip(0.5 - distance, 0, 1)[..., None]  # one pixel of soft edge
        thing = bilinear(self._object, 1.5 * v + 100, 1.5 * u + 100) * self._tint
        picture = picture * (1 - cover) + thing * cover + rng.normal(0, NOISE, picture.shape)
        pixels: Frames = np.clip(picture, 0, 255).round().astype(np.uint8)
        return pixels


def texture(rng: np.random.Generator) -> Pixels:
    """A 200 x 200 cut of a photograph, of those tried the one with most contrast in its middle."""
    best, contrast = None, -1.0
    for _ in range(4):
        photograph = _photographs()[rng.integers(len(_photographs()))]
        top, left = (int(rng.integers(0, size - 200)) for size in photograph.shape[:2])
        cut = photograph[top : top + 200, left : left + 200]
        middle = cut[70:130, 70:130].mean(axis=2)
        if middle.std() > contrast:
            best, contrast = cut, float(middle.std())
    assert best is not None
    return best[:, ::-1] if rng.random() < 0.5 else best


@cache
def _photographs() -> tuple[Pixels, ...]:
    found = []
    for package, name in _PHOTOGRAPHS:
        path = Path(str(files(package))) / name
        if path.is_file():
            found.append(read_frames(path, [0])[0].astype(float))
    if not found:
        names = ", ".join(name for _, name in _PHOTOGRAPHS)
        raise ConfigError(f"none of the photographs that texture generated videos is installed: {names}")
    return tuple(found)


def bilinear(texture: Pixels, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Pixels:
    """Bilinear values of a texture that repeats in both directions."""
    height, width = texture.shape[:2]
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    top, left = top % height, left % width
    below, beside = (top + 1) % height, (left + 1) % width
    upper = texture[top, left] * (1 - right) + texture[top, beside] * right
    lower = texture[below, left] * (1 - right) + texture[below, beside] * right
    mixed: Pixels = upper * (1 - down) + lower * down
    return mixed
