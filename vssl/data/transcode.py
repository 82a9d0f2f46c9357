"""One video as H.264 that is quick to read anywhere: small frames, close key frames, nothing but the picture.

Frame k stays frame k, and is shown at its own moment after the first frame. Frames are scaled in the planes that they
are stored in and keep their colour space; what is marked as turned is turned.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vssl.data.crops import scaled_size
from vssl.data.decode import quarter_turns, stored_frames
from vssl.data.encode import reproducible

_PLANES = "yuv420p"
_UNKNOWN_TYPE = 0  # of a picture: the encoder decides which are key frames, not the original


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a video is made into; see `vssl.stages.transcode_config`."""

    short_side: int
    keyframe_interval: int
    quality: int
    preset: str

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what becomes of frames, even as the encoder needs them."""
        if 0 < self.short_side < min(height, width):
            height, width = scaled_size(height, width, self.short_side, "nearest")
        return max(2, height // 2 * 2), max(2, width // 2 * 2)


def transcode(source: Path, path: Path, target: Target, fps: float) -> int:
    """Write a video anew. Not atomic: write aside and rename.

    Args:
        source: the original.
        path: file to write, an MP4.
        target: what to make of it.
        fps: frame rate, for frames without a time stamp.

    Returns:
        Number of frames written.

    Raises:
        BrokenVideo: the original does not open, or breaks on the way.
    """
    options = {"crf": str(target.quality), "preset": target.preset, "g": str(target.keyframe_interval)}
    count, last, begin = 0, -1, 0
    scaler = VideoReformatter()
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream("libx264", options=reproducible(options))
        for frame in stored_frames(source):
            base = frame.time_base or Fraction(1, 25)
            if count == 0:
                begin = frame.pts or 0
                _begin(stream, frame, target, base, fps)
            stamp = None if frame.pts is None else frame.pts - begin
            step = max(1, round(1 / (fps * base)))
            last = last + step if stamp is None else max(last + 1, stamp)
            picture = _upright(scaler, frame, *target.size(frame.height, frame.width))
            picture.pts, picture.time_base, picture.pict_type = last, base, _UNKNOWN_TYPE
            output.mux(stream.encode(picture))
            count += 1
        if count:
            output.mux(stream.encode())
    return count


def _begin(stream: av.VideoStream, frame: av.VideoFrame, target: Target, base: Fraction, fps: float) -> None:
    """Set the encoder up for frames like the first one."""
    height, width = target.size(frame.height, frame.width)
    context = stream.codec_context
    context.height, context.width = (width, height) if quarter_turns(frame) % 2 else (height, width)
    context.pix_fmt, context.time_base = _PLANES, base
    context.framerate = Fraction(fps).limit_denominator(1001)
    context.thread_count = 1  # the same bytes on every machine
    for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
        setattr(context, name, getattr(frame, name))


def _upright(scaler: VideoReformatter, frame: av.VideoFrame, height: int, width: int) -> av.VideoFrame:
    scaled = scaler.reformat(frame, width, height, _PLANES, interpolation="BICUBIC", threads=1)
    turns = quarter_turns(frame)
    if not turns:
        return scaled
    planes = scaled.to_ndarray()  # (H * 3 / 2, W): Y, then U and V with two of their rows in one
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    turned = [np.rot90(planes[:height], turns), *(np.rot90(plane, turns) for plane in chroma)]
    rows = [plane.reshape(-1, turned[0].shape[1]) for plane in turned]
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(np.concatenate(rows)), format=_PLANES)
