"""How fast random clips are decoded to crops of 128 pixels, beside other decoders, in the same run, on the same files.

python benchmarks/decode.py [FOLDER] [--films 8] [--clips 32] [--rounds 3] [--seconds 4]

FOLDER holds videos; without one, films of 640x480 and ten seconds are made from photographs. Every film is read as it
is stored, and transcoded to short side 256 with a key frame every 16 frames at the same quality. A clip opens its file
anew, as an epoch does; one thread decodes, and on all cores one process a core. Time is what the processors spent, so
that other work on the machine matters little. Decoders take turns and ratios are taken turn by turn.
decord, torchcodec (which needs FFmpeg's shared libraries) and OpenCV are compared where they are installed:
pip install 'vssl[bench]'.
"""

import argparse
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

SIDE = 128
SHAPES = ((16, 2), (32, 1))  # frames, stride
QUALITY = 23
Read = Callable[[str, list[int]], NDArray[np.uint8]]  # path, frame numbers -> (T, 128, 128, 3)


@dataclass(frozen=True)
class Film:
    path: str
    frames: int
    height: int
    width: int
    seekable: bool

    @property
    def scaled(self) -> tuple[int, int]:
        """(height, width) once the shorter side is SIDE."""
        short = min(self.height, self.width)
        return round(self.height * SIDE / short), round(self.width * SIDE / short)


@dataclass(frozen=True)
class Measured:
    frames: int
    cpu_s: float
    grown_mb: float  # peak memory above what the process had before its first clip
    peak_mb: float


def _vssl(film: Film) -> Read:
    from vssl.data import decode

    def read(path: str, indices: list[int]) -> NDArray[np.uint8]:
        decode._tables.clear()  # an epoch meets a file once
        return _central(decode.read_frames(Path(path), indices, seekable=film.seekable, short_side=SIDE))

    return read


def _decord(film: Film) -> Read:
    import decord

    height, width = film.scaled
    return lambda path, indices: _central(
        decord.VideoReader(path, num_threads=1, height=height, width=width).get_batch(indices).asnumpy()
    )


def _torchcodec(film: Film, mode: str) -> Read:
    import torch
    import torch.nn.functional as F
    from torchcodec.decoders import VideoDecoder

    torch.set_num_threads(1)

    def read(path: str, indices: list[int]) -> NDArray[np.uint8]:
        decoder = VideoDecoder(path, num_ffmpeg_threads=1, seek_mode=mode)
        frames = decoder.get_frames_at(indices).data
        # A quarter faster than its own transforms.
        small = F.interpolate(frames, size=film.scaled, mode="bilinear", antialias=True)
        return _central(small.permute(0, 2, 3, 1).numpy())

    return read


def _opencv(film: Film) -> Read:
    import cv2

    cv2.setNumThreads(1)
    height, width = film.scaled

    def read(path: str, indices: list[int]) -> NDArray[np.uint8]:
        capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        capture.set(cv2.CAP_PROP_POS_FRAMES, indices[0])
        wanted, frames = set(indices), []
        for number in range(indices[0], indices[-1] + 1):
            capture.grab()
            if number in wanted:
                small = cv2.resize(capture.retrieve()[1], (width, height), interpolation=cv2.INTER_LINEAR)
                frames.append(small[..., ::-1])
        capture.release()
        return _central(np.stack(frames))

    return read


DECODERS: dict[str, Callable[[Film], Read]] = {
    "vssl": _vssl,
    "decord": _decord,
    "torchcodec exact": lambda film: _torchcodec(film, "exact"),
    "torchcodec approximate": lambda film: _torchcodec(film, "approximate"),
    "OpenCV": _opencv,
}


def _central(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = (frames.shape[1] - SIDE) // 2, (frames.shape[2] - SIDE) // 2
    return np.ascontiguousarray(frames[:, top : top + SIDE, left : left + SIDE])


def measure(
    name: str, films: Sequence[Film], shape: tuple[int, int], clips: int, seed: int, starts_at: float
) -> Measured:
    """In a process of its own: random clips, the same for every decoder of the same seed."""
    draws, readers = random.Random(seed), {film: DECODERS[name](film) for film in films}
    num_frames, stride = shape
    for film, read in readers.items():  # libraries load what they need at the first clip
        read(film.path, [0, 1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while time.time() < starts_at:
        time.sleep(0.001)
    cpu = time.process_time()
    for number in range(clips):
        film = films[number % len(films)]
        start = draws.randrange(film.frames - (num_frames - 1) * stride)
        clip = readers[film](film.path, list(range(start, start + (num_frames - 1) * stride + 1, stride)))
        assert clip.shape == (num_frames, SIDE, SIDE, 3), (name, clip.shape)
    cpu_s = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Measured(clips * num_frames, cpu_s, (peak - before) / 1024, peak / 1024)


def unavailable(name: str, film: Film) -> str:
    """Why a decoder cannot take part; empty where it can."""
    try:
        DECODERS[name](film)(film.path, [0, 1])
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:120]}"
    return ""


def in_fresh_processes(calls: Sequence[tuple[Any, ...]], work: Callable[..., Any] = measure) -> list[Any]:
    """Each call in a process of its own, all at once."""
    with ProcessPoolExecutor(len(calls), mp_context=get_context("spawn")) as pool:
        return [pending.result() for pending in [pool.submit(work, *call) for call in calls]]


def compare(films: Sequence[Film], names: Sequence[str], clips: int, rounds: int) -> dict[tuple[int, int], float]:
    """Print a table of this set of films; median frames/s of vssl on one core, per clip shape."""
    ours: dict[tuple[int, int], float] = {}
    cores = os.cpu_count() or 1
    for shape in SHAPES:
        long_enough = [film for film in films if film.frames > shape[0] * shape[1]]
        for workers in sorted({1, cores}):
            speeds: dict[str, list[float]] = {name: [] for name in names}
            memory: dict[str, Measured] = {}
            for turn in range(rounds):
                for name in names:
                    calls = [
                        (name, long_enough, shape, clips, 1000 * turn + worker, time.time() + 3.0)
                        for worker in range(workers)
                    ]
                    found = in_fresh_processes(calls)
                    speeds[name].append(sum(one.frames / one.cpu_s for one in found))
                    memory[name] = found[0]
            if workers == 1:
                ours[shape] = statistics.median(speeds["vssl"])
            for name in names:
                ratio = statistics.median(a / b for a, b in zip(speeds["vssl"], speeds[name]))
                beside = "" if name == "vssl" else f"   vssl is {ratio:.2f} times as fast"
                print(
                    f"  {shape[0]}x{shape[1]}, {workers} core{'s' * (workers > 1)}, {name:<23}"
                    f"{statistics.median(speeds[name]):7.0f} frames/s   "
                    f"{memory[name].peak_mb:4.0f} MB, {memory[name].grown_mb:3.0f} of them by decoding{beside}",
                    flush=True,
                )
    return ours


def made_film(seed: int, frames: int) -> Iterator[NDArray[np.uint8]]:
    """A camera that moves over a photograph in which another part of it moves, with the noise of a sensor."""
    from vssl.data.generated.motions import _photographs

    rng, pictures = np.random.default_rng(seed), _photographs()
    picture = pictures[seed % len(pictures)].astype(np.float32).repeat(2, 0).repeat(2, 1)
    thing = picture[100:260, 200:420][::-1]
    room = np.array(picture.shape[:2]) - (480, 640)
    place, pace = rng.uniform(0, room), rng.normal(0, 3, 2)
    for number in range(frames):
        pace = np.where((place + pace < 0) | (place + pace > room), -pace, pace + rng.normal(0, 0.4, 2))
        place = (place + pace).clip(0, room)
        top, left = place.astype(int)
        frame = picture[top : top + 480, left : left + 640].copy()
        down, right = int(160 + 120 * np.sin(number / 11)), int(210 + 180 * np.cos(number / 17))
        frame[down : down + 160, right : right + 220] = thing
        yield (frame + rng.normal(0, 2, (480, 640, 1))).clip(0, 255).astype(np.uint8)


def described(path: Path) -> Film | None:
    """In a process of its own, so that none of ours has libraries of another decoder beside it."""
    from vssl.data.decode import BrokenVideo, inspect

    try:
        found = inspect(path)
    except BrokenVideo:
        return None
    return Film(str(path), found.frames, found.height, found.width, found.seekable)


def make(path: Path, seed: int) -> None:
    from vssl.data.decode import write_video

    write_video(path, made_film(seed, 300), codec="libx264", fps=30, options={"crf": str(QUALITY)})


def smaller(source: Path, path: Path) -> None:
    from vssl.data.decode import inspect
    from vssl.data.transcode import Target, transcode

    target = Target(short_side=256, keyframe_interval=16, quality=QUALITY, preset="medium")
    transcode(source, path, target, inspect(source).fps or 25.0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of decoding random clips, beside other decoders.")
    parser.add_argument("folder", nargs="?", type=Path, help="videos; without it, films are made")
    parser.add_argument("--films", type=int, default=6, help="at most so many, evenly spread over the folder's")
    parser.add_argument("--clips", type=int, default=24, help="clips of a turn and process")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each decoder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.folder is None:
            paths = [folder / f"film {number}.mp4" for number in range(options.films)]
            for number, path in enumerate(paths):
                in_fresh_processes([(path, number)], make)
        else:
            found = sorted(
                path for path in options.folder.rglob("*") if path.suffix in (".mp4", ".avi", ".mkv", ".webm")
            )
            paths = found[:: max(1, len(found) // options.films)][: options.films]
        small = [folder / f"small {number}.mp4" for number in range(len(paths))]
        for source, path in zip(paths, small):
            in_fresh_processes([(source, path)], smaller)
        sets = {
            name: [film for (film,) in (in_fresh_processes([(path,)], described) for path in of) if film is not None]
            for name, of in (("as stored", paths), ("short side 256, key frames 16 apart", small))
        }
        names = []
        for name in DECODERS:
            (reason,) = in_fresh_processes([(name, sets["as stored"][0])], unavailable)
            if reason:
                print(f"{name} takes no part: {reason}")
            else:
                names.append(name)
        speed = {}
        for title, films in sets.items():
            sizes = sorted({f"{film.width}x{film.height}" for film in films})
            megabytes = sum(Path(film.path).stat().st_size for film in films) / 2**20
            print(f"{title}: {len(films)} films, {', '.join(sizes)}, {megabytes:.1f} MB", flush=True)
            speed[title] = compare(films, names, options.clips, options.rounds)
        stored, transcoded = speed.values()
        for shape in SHAPES:
            print(f"{shape[0]}x{shape[1]}: transcoded films are {transcoded[shape] / stored[shape]:.1f} times as fast")


if __name__ == "__main__":
    main()
