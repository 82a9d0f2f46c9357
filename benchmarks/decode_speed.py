"""Frames per second of decoding clips from an H.264 file, from its beginning and from its middle.

python benchmarks/decode_speed.py
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from vssl.data.decode import inspect, read_frames, write_video  # noqa: E402  (the checkout goes on the path first)

FRAMES, HEIGHT, WIDTH, CLIP = 600, 240, 320, 32


def main() -> None:
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drift.mp4"
        frames = (np.roll(texture, (k, 2 * k), (0, 1)) for k in range(FRAMES))
        write_video(path, frames, codec="libx264", fps=25)
        seekable = inspect(path).seekable
        for name, first in (("first frames", 0), ("middle", FRAMES // 2), ("last frames", FRAMES - CLIP)):
            started, clips = time.perf_counter(), 0
            while time.perf_counter() - started < 3:
                read_frames(path, range(first, first + CLIP), seekable=seekable)
                clips += 1
            speed = clips * CLIP / (time.perf_counter() - started)
            print(f"{WIDTH}x{HEIGHT} clips of {CLIP} frames, {name}: {speed:.0f} frames/s", flush=True)


if __name__ == "__main__":
    main()
