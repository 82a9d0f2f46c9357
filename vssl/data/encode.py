"""Frames to video files, the same bytes for the same frames. `vssl.data.decode` says who imports av."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]  # (T, H, W, 3) RGB

_X264 = ("libx264", "libx264rgb")


def write_video(
    path: Path,
    frames: Iterable[Frames],
    *,
    codec: str,
    fps: float,
    pixel_format: str | None = None,
    options: dict[str, str] | None = None,
    stamps: Sequence[int] | None = None,
    container: str | None = None,
) -> int:
    """Encode frames to a file. Not atomic: write aside and rename.

    Args:
        path: file to write.
        frames: (H, W, 3) uint8 RGB frames, all of one size.
        codec: an encoder of FFmpeg; "ffv1" in a .mkv keeps RGB without loss.
        fps: frame rate.
        pixel_format: what the encoder stores; default bgr0 for ffv1, yuv420p otherwise (which needs even sizes).
        options: the encoder's own, such as {"crf": "20", "g": "12"}.
        stamps: time stamp of each frame in units of 1/fps; default 0, 1, 2, ...
        container: FFmpeg's name of the file format; default by the path's suffix.

    Returns:
        Number of frames written.
    """
    rate = Fraction(fps).limit_denominator(1001)
    count = 0
    # the same bytes for the same frames: without it Matroska draws a random identifier for every file
    with av.open(str(path), "w", format=container, options={"fflags": "+bitexact"}) as output:
        options = reproducible(options or {}) if codec in _X264 else options
        stream = cast(av.VideoStream, output.add_stream(codec, rate=rate, options=options or {}))
        stream.pix_fmt = pixel_format or ("bgr0" if codec == "ffv1" else "yuv420p")
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        for pixels in frames:
            if count == 0:
                stream.height, stream.width = pixels.shape[:2]
                stream.codec_context.time_base = 1 / rate
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = count if stamps is None else stamps[count]
            frame.time_base = 1 / rate
            output.mux(stream.encode(frame))
            count += 1
        if count:
            output.mux(stream.encode())
    return count


def reproducible(options: Mapping[str, str]) -> dict[str, str]:
    """x264's options with the one by which equal frames make equal files, on every machine.

    Without it algorithms differ by CPU, and on those with AVX-512 the rate control looks at memory that nobody has set.
    """
    own = options.get("x264-params")
    return {**options, "x264-params": f"{own}:cpu-independent=1" if own else "cpu-independent=1"}
