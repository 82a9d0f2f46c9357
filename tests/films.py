"""Tiny real files in the formats that published datasets come in, each with content of its own."""

import zlib
from pathlib import Path

from tests.conftest import drifting
from vssl.data.decode import write_video

_CODECS = {
    ".avi": "mpeg4",
    ".mp4": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx-vp9",
    ".jpeg": "mjpeg",
    ".png": "png",
}
_OPTIONS = {"libx264": {"preset": "ultrafast"}, "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"}}


def film(path: Path, *, frames: int = 6, fps: float = 25, size: tuple[int, int] = (32, 40)) -> Path:
    """Write a video, or an image, whose content is that of no other path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    codec = _CODECS[suffix]
    seed = zlib.crc32(path.as_posix().encode())
    pixels = drifting(frames, *size, seed=seed)
    if suffix in (".jpeg", ".png"):
        pixel_format = "yuvj420p" if suffix == ".jpeg" else "rgb24"
        write_video(path, pixels[:1], codec=codec, fps=25, pixel_format=pixel_format, container="image2")
    else:
        write_video(path, pixels, codec=codec, fps=fps, options=_OPTIONS.get(codec))
    return path


def films(root: Path, *names: str) -> None:
    for name in names:
        film(root / name)
