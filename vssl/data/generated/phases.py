"""Videos of one process, made here: the same phases in the same order, each video at speeds of its own, with pauses.

A bright thing is carried in from the left, lifted, turned, lowered and carried out, and grows all the while, before a
textured, drifting background: its pose says how far the process is, and backgrounds, shapes and tints say nothing.
Every frame is labelled with its phase, in the layout of Pouring as CARL publishes it: videos/<name>.mp4, train.pkl and
val.pkl.
"""

import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vssl.data.dataset_config import PhasesConfig
from vssl.data.decode import Frames, write_video
from vssl.data.generated.motions import Look, Pose, Scene, made_whole

_SPLITS = ("train", "val")
_FPS = 25.0
_REACH = 0.26  # how far the object is carried to either side, share of the short side
_LONGEST_PAUSE = 0.2  # share of the video

Progress = NDArray[np.float64]  # (T,) whole phases that are done, and the share of the one that is on


def generate_phases(config: PhasesConfig, root: Path, say: Callable[[str], None]) -> None:
    """Make the set at `root`, whole or not at all; does nothing where it exists.

    Raises:
        ConfigError: no photographs are installed.
    """
    if root.is_dir():
        return
    counts = {"train": config.videos_train, "val": config.videos_val}
    wanted = [(split, number) for split in _SPLITS for number in range(counts[split])]
    made_whole(root, ["videos"], partial(_make, config), wanted, say, finish=partial(_write_lists, config))


def draw_progress(config: PhasesConfig, rng: np.random.Generator) -> Progress:
    """How far the process is in each frame of a video: never backwards, from 0 to nearly the number of phases."""
    total = int(rng.integers(config.frames[0], config.frames[1] + 1))
    lengths = rng.uniform(0.5, 2.0, config.phases)  # each phase at a pace of its own
    paused = rng.random(config.phases) < config.pauses
    rest = np.where(paused, rng.uniform(0.5, 1.0, config.phases), 0) * _LONGEST_PAUSE * lengths.sum()
    where = rng.uniform(0.2, 0.8, config.phases)  # share of the phase at which it rests
    times, states = [0.0], [0.0]
    for phase in range(config.phases):
        times += [times[-1] + where[phase] * lengths[phase]]
        states += [phase + where[phase]]
        times += [times[-1] + rest[phase]]
        states += [states[-1]]
        times += [times[-1] + (1 - where[phase]) * lengths[phase]]
        states += [phase + 1.0]
    at = (np.arange(total) + 0.5) / total * times[-1]
    progress: Progress = np.interp(at, times, states).clip(0, config.phases - 1e-6)
    return progress


def pose_at(progress: float) -> Pose:
    """Where the object is, and how large, when so much of the process is done."""
    carried, lifted, turned, lowered, left = (min(max(progress - phase, 0.0), 1.0) for phase in range(5))
    return Pose(
        x=_REACH * (carried - 1 + left),
        y=_REACH * (0.8 - 1.4 * lifted + 0.7 * lowered),
        scale=0.35 * 1.4**progress,  # nets that look for the largest response anywhere see sizes, and places hardly
        angle=0.5 * np.pi * turned,
    )


def _stream(config: PhasesConfig, split: str, number: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([config.seed, _SPLITS.index(split), number, purpose])


def _make(config: PhasesConfig, root: Path, wanted: tuple[str, int]) -> None:
    split, number = wanted
    progress = draw_progress(config, _stream(config, split, number, 0))
    look = Look(
        height=config.size, width=config.size, frames=len(progress), fps=_FPS, pixel_format="yuv420p",
        encoder=(("preset", "veryfast"), ("crf", "18"), ("g", "12")),
    )  # fmt: skip
    path = root / "videos" / f"{_name(split, number)}.mp4"
    frames = _render(config, look, progress, _stream(config, split, number, 1))
    write_video(path, frames, codec="libx264", fps=_FPS, pixel_format=look.pixel_format, options=dict(look.encoder))


def _render(config: PhasesConfig, look: Look, progress: Progress, rng: np.random.Generator) -> Iterator[Frames]:
    scene = Scene(look, config.drift, np.ones(3), rng, plain=True)
    for state in progress.tolist():
        yield scene.draw(pose_at(state), rng)


def _write_lists(config: PhasesConfig, root: Path) -> None:
    counts = {"train": config.videos_train, "val": config.videos_val}
    for split in _SPLITS:
        records = []
        for number in range(counts[split]):
            labels = draw_progress(config, _stream(config, split, number, 0)).astype(int).tolist()
            name = _name(split, number)
            about = {"id": number, "name": name, "video_file": f"videos/{name}.mp4"}
            records.append(about | {"frame_label": labels, "seq_len": len(labels)})
        (root / f"{split}.pkl").write_bytes(pickle.dumps(records))


def _name(split: str, number: int) -> str:
    return f"{split}-{number:03d}"
