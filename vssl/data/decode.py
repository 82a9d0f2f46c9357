"""Video files to frames and back: the only importer of av.

Frame k of a file is frame k of a full decode from the start, whatever the codec, B-frames, uneven or shifted time
stamps. Reading a few frames seeks to the key frame before them; where a file's time stamps do not allow that,
it is decoded from the start.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

Frames = NDArray[np.uint8]  # (T, H, W, 3) RGB

_TABLES_KEPT = 4096  # frame tables a process remembers, about 20 bytes a frame
_WORTH_SEEKING = 12  # unwanted frames that are decoded rather than skipped by another seek

av.logging.set_level(None)  # a broken file is reported once, by us, with its name


class BrokenVideo(Exception):
    """A file that cannot be decoded; `reason` says why in a few words."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type["BrokenVideo"], tuple[Path, str]]:
        return BrokenVideo, (self.path, self.reason)  # so that it passes between processes


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a full decode found."""

    frames: int
    fps: float
    width: int
    height: int
    duration_s: float
    seekable: bool  # whether time stamps name frames reliably, so that reading may seek


@dataclass(frozen=True)
class _FrameTable:
    """Display order of a file's frames, from its packets alone."""

    stamps: NDArray[np.int64]  # (frames,) ascending presentation time stamps
    keys: NDArray[np.int64]  # indices of key frames, ascending
    key_seeks: NDArray[np.int64]  # time stamp to seek to for each key frame
    packets: int  # packets met, those that show nothing included
    exact: bool  # whether every packet has its own time stamp


_tables: OrderedDict[tuple[str, int, int], _FrameTable] = OrderedDict()


def read_frames(path: Path, indices: Iterable[int], *, seekable: bool = False) -> Frames:
    """The frames with these indices, in the order given; repeats are allowed.

    Args:
        path: a video file.
        indices: frame numbers, from 0.
        seekable: true where `inspect` found that time stamps name this file's frames; else it is decoded from the
            start.

    Returns:
        (len(indices), H, W, 3) uint8 RGB at the file's own size.

    Raises:
        BrokenVideo: the file does not open, or ends before the last of these frames.
    """
    order = [int(index) for index in indices]
    wanted = sorted(set(order))
    if not wanted or wanted[0] < 0:
        raise ValueError(f"expected frame numbers from 0, got {order[:8]}")
    found: dict[int, Frames] = {}
    if seekable and wanted[-1] >= _WORTH_SEEKING:
        found = _read_seeking(path, wanted)
    if len(found) < len(wanted):
        found = _read_counting(path, wanted)
    missing = [index for index in wanted if index not in found]
    if missing:
        raise BrokenVideo(path, f"frame {missing[0]} does not decode")
    if len({frame.shape for frame in found.values()}) > 1:
        raise BrokenVideo(path, "the frame size changes within the file")
    return np.stack([found[index] for index in order])


def inspect(path: Path) -> VideoInfo:
    """Decode a whole file and say what is in it.

    Raises:
        BrokenVideo: it is no video, is damaged, or ends before its own header says.
    """
    with _opened(path) as (container, stream):
        promised, rate, base = stream.frames, stream.average_rate, stream.time_base
        stamps: list[int | None] = []
        sizes: set[tuple[int, int]] = set()
        for frame in container.decode(stream):
            stamps.append(frame.pts)
            sizes.add((frame.width, frame.height))
        tagged = stream.metadata.get("DURATION")
    if not stamps:
        raise BrokenVideo(path, "no frame decodes")
    if len(sizes) > 1:
        raise BrokenVideo(path, f"the frame size changes within the file: {sorted(sizes)}")
    table = _frame_table(path)
    if promised > table.packets:
        raise BrokenVideo(path, f"truncated: {table.packets} of {promised} frames are there")
    fps = float(rate) if rate else 0.0
    start_s, duration_s = _extent(stamps, base, fps)
    if tagged and start_s + duration_s < 0.95 * _seconds(tagged) - 3 / (fps or 25.0):
        raise BrokenVideo(path, f"truncated: it ends at {start_s + duration_s:.2f} of {_seconds(tagged):.2f} s")
    width, height = sizes.pop()
    seekable = table.exact and stamps == table.stamps.tolist() and _seeks_right(path, table)
    return VideoInfo(frames=len(stamps), fps=fps, width=width, height=height, duration_s=duration_s, seekable=seekable)


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


@contextmanager
def _opened(path: Path) -> Iterator[tuple["av.container.InputContainer", "av.VideoStream"]]:
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = cast(av.VideoStream | None, container.streams.best("video"))
            if stream is None:
                raise BrokenVideo(path, "no video stream")
            stream.codec_context.thread_count = 1
            yield container, stream
    except av.FFmpegError as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        reason = "the file is empty" if path.stat().st_size == 0 else (error.strerror or str(error))
        raise BrokenVideo(path, reason) from None


def _frame_table(path: Path) -> _FrameTable:
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key in _tables:
        _tables.move_to_end(key)
        return _tables[key]
    rows: list[tuple[int, int, bool]] = []  # presentation stamp, stamp to seek to, key frame
    packets, exact = 0, True
    with _opened(path) as (container, stream):
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            packets += 1
            if packet.is_discard:
                continue
            if packet.pts is None:
                exact = False
                continue
            earliest = packet.pts if packet.dts is None else min(packet.pts, packet.dts)
            rows.append((packet.pts, earliest, packet.is_keyframe))
    rows.sort()
    stamps = np.array([row[0] for row in rows], dtype=np.int64)
    table = _FrameTable(
        stamps=stamps,
        keys=np.array([i for i, row in enumerate(rows) if row[2]], dtype=np.int64),
        key_seeks=np.array([row[1] for row in rows if row[2]], dtype=np.int64),
        packets=packets,
        exact=exact and bool((np.diff(stamps) > 0).all()),
    )
    _tables[key] = table
    while len(_tables) > _TABLES_KEPT:
        _tables.popitem(last=False)
    return table


def _read_seeking(path: Path, wanted: Sequence[int]) -> dict[int, Frames]:
    """What of the wanted frames a seek finds; fewer than wanted where the file's time stamps are not to be trusted."""
    table = _frame_table(path)
    if not table.exact or not len(table.keys) or wanted[-1] >= len(table.stamps):
        return {}
    index_of = {int(stamp): index for index, stamp in enumerate(table.stamps)}
    found: dict[int, Frames] = {}
    converter = VideoReformatter()  # keeps its tables from frame to frame
    with _opened(path) as (container, stream):
        for run in _runs(wanted, table):
            key = int(np.searchsorted(table.keys, run[0], side="right")) - 1
            container.seek(int(table.key_seeks[max(key, 0)]), stream=stream, backward=True)
            missing = set(run)
            for frame in container.decode(stream):
                index = index_of.get(frame.pts) if frame.pts is not None else None
                if index is None:
                    return {}
                if index in missing:
                    found[index] = _pixels(frame, converter)
                    missing.remove(index)
                    if not missing:
                        break
            if missing:
                return {}
    return found


def _runs(wanted: Sequence[int], table: _FrameTable) -> Iterator[list[int]]:
    """Wanted frames in groups; a new group begins where seeking ahead saves decoding."""
    run = [wanted[0]]
    for index in wanted[1:]:
        key = table.keys[np.searchsorted(table.keys, index, side="right") - 1]
        if key - run[-1] > _WORTH_SEEKING:
            yield run
            run = []
        run.append(index)
    yield run


def _read_counting(path: Path, wanted: Sequence[int]) -> dict[int, Frames]:
    missing = set(wanted)
    found: dict[int, Frames] = {}
    converter = VideoReformatter()  # keeps its tables from frame to frame
    with _opened(path) as (container, stream):
        for index, frame in enumerate(container.decode(stream)):
            if index in missing:
                found[index] = _pixels(frame, converter)
                missing.remove(index)
                if not missing:
                    break
    return found


def _seeks_right(path: Path, table: _FrameTable) -> bool:
    """Whether frames after a seek equal those of a full decode; files refreshed gradually have no clean entry point."""
    if len(table.keys) < 2 or table.keys[len(table.keys) // 2] < _WORTH_SEEKING:
        return True
    first = int(table.keys[len(table.keys) // 2])
    wanted = list(range(first, min(first + 3, len(table.stamps))))
    sought, counted = _read_seeking(path, wanted), _read_counting(path, wanted)
    return all(index in sought and np.array_equal(sought[index], counted[index]) for index in wanted)


def _pixels(frame: av.VideoFrame, converter: VideoReformatter) -> Frames:
    return cast(Frames, converter.reformat(frame, format="rgb24", threads=1).to_ndarray())


def _extent(stamps: Sequence[int | None], base: Fraction | None, fps: float) -> tuple[float, float]:
    """(start, duration) in seconds, the last frame's own time included."""
    known = [stamp for stamp in stamps if stamp is not None]
    last_frame = 1 / fps if fps else 0.0
    if base is None or len(known) < len(stamps):
        return 0.0, len(stamps) * last_frame
    return float(min(known) * base), float((max(known) - min(known)) * base) + last_frame


def _seconds(clock: str) -> float:
    """Seconds of Matroska's "hh:mm:ss.fraction"."""
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
