"""Video files to frames. Only this, `vssl.data.encode` and `vssl.data.transcode` import av.

Frame k of a file is frame k of a full decode from the start, whatever the codec, B-frames, uneven or shifted time
stamps. Reading a few frames seeks to the key frame before them, decodes what they depend on and nothing else; where a
file's time stamps do not allow that, it is decoded from the start. A phone's rotation is applied: frames are upright.

One thread decodes: loader processes share the cores, and frame threads would only delay the first frame. A container
is opened for each call, which costs less than a frame or two: a training epoch meets every file once.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vssl.data.crops import scaled_size
from vssl.data.encode import Frames as Frames
from vssl.data.encode import write_video as write_video
from vssl.data.frame_table import WORTH_SEEKING, FrameTable, table_of_index, table_of_packets

_TABLES_KEPT = 4096  # frame tables a process remembers, about 20 bytes a frame
_SAY_WHAT_IS_DISPOSABLE = ("h264", "mpeg4")  # codecs whose frames that no other needs are safely told apart

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


_tables: OrderedDict[tuple[str, int, int], FrameTable] = OrderedDict()


def read_frames(path: Path, indices: Iterable[int], *, seekable: bool = False, short_side: int = 0) -> Frames:
    """The frames with these indices, in the order given; repeats are allowed.

    Args:
        path: a video file.
        indices: frame numbers, from 0.
        seekable: true where `inspect` found that time stamps name this file's frames; else it is decoded from the
            start.
        short_side: what the smaller of height and width is scaled down to, the other in proportion, before frames
            become RGB. Of a bilinear resize with antialiasing of the RGB frames this is within 3 levels on average
            and within 32 at 99.9 % of the pixels: colour, stored at half the resolution, stays there. 0: as stored.

    Returns:
        (len(indices), H, W, 3) uint8 RGB.

    Raises:
        BrokenVideo: the file does not open, or ends before the last of these frames.
    """
    order = [int(index) for index in indices]
    wanted = sorted(set(order))
    if not wanted or wanted[0] < 0:
        raise ValueError(f"expected frame numbers from 0, got {order[:8]}")
    convert = _Converter(short_side)
    found: dict[int, Frames] = {}
    if seekable and wanted[-1] >= WORTH_SEEKING:
        found = _read_seeking(path, wanted, convert)
    if len(found) < len(wanted):
        found = _read_counting(path, wanted, convert)
    missing = next((index for index in wanted if index not in found), None)
    if missing is not None:
        raise BrokenVideo(path, f"frame {missing} does not decode")
    if len({frame.shape for frame in found.values()}) > 1:
        raise BrokenVideo(path, "the frame size changes within the file")
    return np.stack([found[index] for index in order])


def all_frames(path: Path, *, short_side: int = 0) -> Iterator[Frames]:
    """Every frame, one after the other: for work on whole files, where calls of `read_frames` would decode twice.

    Raises:
        BrokenVideo: the file does not open, or breaks on the way.
    """
    convert = _Converter(short_side)
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            yield convert(frame)


def stored_frames(path: Path) -> Iterator[av.VideoFrame]:
    """Every frame as it is stored, with its time stamp and before any turn: for work that makes no RGB of it.

    Raises:
        BrokenVideo: as `all_frames`.
    """
    with _opened(path) as (container, stream):
        yield from container.decode(stream)


def inspect(path: Path) -> VideoInfo:
    """Decode a whole file and say what is in it.

    Raises:
        BrokenVideo: it is no video, is damaged, or ends before its own header says.
    """
    with _opened(path, for_seeking=True) as (container, stream):
        indexed = _indexed(container, stream)
        table = table_of_packets(container.demux(stream))
    probes = set(_probes(table))
    stamps: list[int | None] = []
    sizes: set[tuple[int, int]] = set()
    probed: dict[int, Frames] = {}
    convert = _Converter()
    with _opened(path) as (container, stream):
        promised, rate, base = stream.frames, stream.average_rate, stream.time_base
        for number, frame in enumerate(container.decode(stream)):
            stamps.append(frame.pts)
            sizes.add(_upright_size(frame))
            if number in probes:
                probed[number] = convert(frame)
        tagged = stream.metadata.get("DURATION")
    if not stamps:
        raise BrokenVideo(path, "no frame decodes")
    if len(sizes) > 1:
        raise BrokenVideo(path, f"the frame size changes within the file: {sorted(sizes)}")
    if promised > table.packets:
        raise BrokenVideo(path, f"truncated: {table.packets} of {promised} frames are there")
    fps = float(rate) if rate else 0.0
    start_s, duration_s = _extent(stamps, base, fps)
    if tagged and start_s + duration_s < 0.95 * _seconds(tagged) - 3 / (fps or 25.0):
        raise BrokenVideo(path, f"truncated: it ends at {start_s + duration_s:.2f} of {_seconds(tagged):.2f} s")
    height, width = sizes.pop()
    named = all(stamps == one.stamps.tolist() for one in (table, indexed or table))
    seekable = table.exact and named and _seeks_right(path, probed)
    return VideoInfo(frames=len(stamps), fps=fps, width=width, height=height, duration_s=duration_s, seekable=seekable)


class _Converter:
    """Decoded frames to upright RGB; keeps its tables from frame to frame."""

    def __init__(self, short_side: int = 0) -> None:
        self._short_side = short_side
        self._scaler, self._colours = VideoReformatter(), VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> Frames:
        turns = quarter_turns(frame)
        if 0 < self._short_side < min(frame.height, frame.width):
            height, width = scaled_size(frame.height, frame.width, self._short_side, "nearest")
            # In the planes that the file has: a third of the time of scaling and converting at once.
            planes = "rgb24" if frame.format.has_palette else frame.format.name
            frame = self._scaler.reformat(frame, width, height, planes, interpolation="BILINEAR", threads=1)
        rgb = self._colours.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return cast(Frames, np.rot90(rgb, turns))


def quarter_turns(frame: av.VideoFrame) -> int:
    """How often to turn a frame to the left until it is upright: phones store what the sensor saw."""
    return round(frame.rotation / 90) % 4


def _upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    """(height, width) of a frame once it is turned."""
    return (frame.width, frame.height) if quarter_turns(frame) % 2 else (frame.height, frame.width)


@contextmanager
def _opened(
    path: Path, *, for_seeking: bool = False
) -> Iterator[tuple["av.container.InputContainer", "av.VideoStream"]]:
    """A file and its video stream.

    `for_seeking` does not decode a first frame only to learn how far frames are reordered, which costs as much as the
    clip's own key frame. A decoder that has to find that out itself may leave frames out, so that frames must be told
    by their time stamps, and those that are missing read in another way.
    """
    try:
        options = {"skip_frame": "all"} if for_seeking else {}
        with av.open(str(path), metadata_errors="replace", options=options) as container:
            stream = cast(av.VideoStream | None, container.streams.best("video"))
            if stream is None:
                raise BrokenVideo(path, "no video stream")
            if stream.codec_context is None:
                raise BrokenVideo(path, "no decoder for its codec")
            stream.codec_context.thread_count = 1
            yield container, stream
    except IndexError:  # av's own, of streams that damage makes up
        raise BrokenVideo(path, "a stream turns up that its header does not know") from None
    except av.FFmpegError as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        reason = "the file is empty" if path.stat().st_size == 0 else (error.strerror or str(error))
        raise BrokenVideo(path, reason) from None


def _table_of(path: Path, container: Any, stream: Any) -> FrameTable:
    """The table of an open file. Where the index does not say it all the file is read to its end, once if possible."""
    table = _indexed(container, stream)
    if table is not None:
        return table
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    table = _tables.pop(key, None) or table_of_packets(container.demux(stream))
    _tables[key] = table
    if len(_tables) > _TABLES_KEPT:
        _tables.popitem(last=False)
    return table


def _indexed(container: Any, stream: Any) -> FrameTable | None:
    """What the header of an MP4 or AVI says, which is read in any case; other formats have less in theirs."""
    entries = getattr(stream, "index_entries", ())  # of later versions of av
    format_name = container.format.name
    # An AVI with B-frames does not say when its first frame is shown.
    speaks = "mp4" in format_name or (format_name == "avi" and not stream.codec_context.has_b_frames)
    complete = speaks and stream.start_time is not None and 0 < stream.frames == len(entries)
    return table_of_index(entries, stream.start_time) if complete else None


def _read_seeking(path: Path, wanted: Sequence[int], convert: _Converter) -> dict[int, Frames]:
    """What of the wanted frames a seek finds; fewer than wanted where the file's time stamps are not to be trusted."""
    found: dict[int, Frames] = {}
    with _opened(path, for_seeking=True) as (container, stream):
        table = _table_of(path, container, stream)
        if not table.exact or wanted[-1] >= len(table.stamps):
            return {}
        for run in table.runs(wanted):
            stamps = {int(table.stamps[index]) for index in run}
            for frame in _decoded(_packets_from(container, stream, table, run[0]), stream.codec_context, stamps):
                if frame.pts in stamps:
                    found[cast(int, table.index(frame.pts))] = convert(frame)
    return found


def _packets_from(container: Any, stream: Any, table: FrameTable, index: int) -> Iterator[Any]:
    """Packets from a key frame on that is shown no later than this frame; none where no seek finds one."""
    for stamp in table.seeks(index):
        try:
            container.seek(stamp, stream=stream, backward=True)
        except av.FFmpegError:  # refused, as by some damaged files: they can still be decoded from the start
            continue
        packets = container.demux(stream)
        first = next(packets, None)
        lands = None if first is None else table.index(first.pts)
        if first is not None and (stamp == table.begin or (lands is not None and lands <= index)):
            return chain([first], packets)
    return iter(())


def _decoded(packets: Iterable[Any], context: Any, stamps: set[int]) -> Iterator[av.VideoFrame]:
    """Frames of these packets, as far as they are needed to show those of these time stamps; others among them."""
    unread, skips, can_skip = set(stamps), None, context.name in _SAY_WHAT_IS_DISPOSABLE
    for packet in packets:
        if can_skip and skips != (skips := packet.pts not in stamps):
            context.skip_frame = "NONREF" if skips else "DEFAULT"
        yield from packet.decode()
        unread.discard(packet.pts)
        if not unread:  # what the decoder still holds back, without feeding it any more
            yield from context.decode(None)
            return


def _read_counting(path: Path, wanted: Sequence[int], convert: _Converter) -> dict[int, Frames]:
    missing = set(wanted)
    found: dict[int, Frames] = {}
    with _opened(path) as (container, stream):
        for index, frame in enumerate(container.decode(stream)):
            if index in missing:
                found[index] = convert(frame)
                missing.remove(index)
                if not missing:
                    break
    return found


def _probes(table: FrameTable) -> list[int]:
    """Frames by which `inspect` tests whether a seek finds what a full decode found.

    A few after the first key frame, one in the middle and the last: files refreshed gradually have no clean entry
    point, and every other frame is left out, so that those which are skipped matter to none of the others.
    """
    if not table.exact:
        return []
    places = {WORTH_SEEKING, int(table.keys[len(table.keys) // 2]), int(table.keys[-1])}
    return sorted(
        {
            index
            for place in places
            for index in range(place, place + 6, 2)
            if WORTH_SEEKING <= index < len(table.stamps)
        }
    )


def _seeks_right(path: Path, probed: Mapping[int, Frames]) -> bool:
    """Whether frames after a seek equal those of a full decode."""
    if not probed:
        return True
    sought = _read_seeking(path, sorted(probed), _Converter())
    return all(index in sought and np.array_equal(sought[index], frame) for index, frame in probed.items())


def _extent(stamps: Sequence[int | None], base: Fraction | None, fps: float) -> tuple[float, float]:
    """(start, duration) in seconds, the last frame's own time included."""
    known = [stamp for stamp in stamps if stamp is not None]
    last_frame = 1 / fps if fps else 0.0
    if base is None or len(known) < len(stamps):
        return 0.0, len(stamps) * last_frame
    return float(min(known) * base), float((max(known) - min(known)) * base) + last_frame


def _seconds(clock: str) -> float:
    """Seconds of Matroska's "hh:mm:ss.fraction"; 0 for what is nothing of the kind."""
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", clock)
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else 0.0
