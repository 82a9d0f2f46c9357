"""Which frame a time stamp names, and where decoding has to begin for it: from what a file says, without decoding."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

WORTH_SEEKING = 12  # unwanted frames that are decoded rather than skipped by another seek


class Packet(Protocol):
    """What a demuxer says of a piece of encoded video."""

    pts: int | None
    dts: int | None
    size: int
    is_discard: bool
    is_keyframe: bool


class IndexEntry(Protocol):
    """What a file's own index says of a piece of encoded video."""

    timestamp: int
    size: int
    is_discard: bool
    is_keyframe: bool


@dataclass(frozen=True)
class FrameTable:
    """Display order of a file's frames."""

    stamps: NDArray[np.int64]  # (frames,) ascending presentation time stamps
    keys: NDArray[np.int64]  # indices of key frames, ascending
    key_seeks: NDArray[np.int64]  # decoding time stamps of the key frames, where they are lower
    begin: int  # a stamp from which everything is decoded
    packets: int  # packets met, those that show nothing included
    exact: bool  # whether every packet has its own time stamp and there is a key frame to begin at

    def index(self, stamp: int | None) -> int | None:
        """Number of the frame that is shown at this time stamp; None if there is none."""
        if stamp is None:
            return None
        index = int(self.stamps.searchsorted(stamp))
        return index if index < len(self.stamps) and self.stamps[index] == stamp else None

    def seeks(self, index: int) -> Iterator[int]:
        """Time stamps to seek to before decoding a frame, the nearest key frame's first.

        Where a seek lands is for the caller to look at: containers compare with decoding or with presentation stamps.
        The last one is the file's beginning.
        """
        key = self._key(index)
        for earlier in range(key, max(key - 2, -1), -1):
            yield int(self.stamps[self.keys[earlier]])
            yield int(self.key_seeks[earlier])
        yield self.begin

    def runs(self, wanted: Sequence[int]) -> Iterator[list[int]]:
        """Ascending frame numbers in groups; a new group begins where seeking ahead saves decoding."""
        run = [wanted[0]]
        for index in wanted[1:]:
            key = self._key(index)
            if key >= 0 and self.keys[key] - run[-1] > WORTH_SEEKING:
                yield run
                run = []
            run.append(index)
        yield run

    def _key(self, index: int) -> int:
        """The key frame shown at or before a frame: those shown before it may need what came before it."""
        return int(self.keys.searchsorted(index, side="right")) - 1


def table_of_packets(packets: Iterable[Packet]) -> FrameTable:
    """Read all packets of a video stream."""
    rows: list[tuple[int, int, bool]] = []  # presentation stamp, stamp to seek to, key frame
    met, exact, begin = 0, True, 0
    for packet in packets:
        if packet.size == 0:
            continue
        met += 1
        stamp, decoded = packet.pts, packet.dts
        earliest = stamp if decoded is None or stamp is None else min(stamp, decoded)
        begin = min(begin, earliest or 0)
        if packet.is_discard:
            continue
        if stamp is None or earliest is None:
            exact = False
            continue
        rows.append((stamp, earliest, packet.is_keyframe))
    rows.sort()
    stamps = np.array([row[0] for row in rows], dtype=np.int64)
    keys = np.array([number for number, row in enumerate(rows) if row[2]], dtype=np.int64)
    return FrameTable(
        stamps=stamps,
        keys=keys,
        key_seeks=np.array([rows[key][1] for key in keys], dtype=np.int64),
        begin=begin,
        packets=met,
        exact=exact and len(keys) > 0 and bool((np.diff(stamps) > 0).all()),
    )


def table_of_index(entries: Sequence[IndexEntry], first: int) -> FrameTable | None:
    """The table of a file whose frames are evenly spaced, from its index alone; None where they are not.

    The index names decoding stamps, and key frames by their place in decoding order: with frames in between that are
    decoded later and shown earlier, a key frame is shown later than it says here. Whoever seeks sees it.

    Args:
        entries: all of a stream, in decoding order.
        first: time stamp of the frame that is shown first.
    """
    decoded = np.array([entry.timestamp for entry in entries], dtype=np.int64)
    steps = np.diff(decoded)
    if len(decoded) < 2 or steps[0] <= 0 or (steps != steps[0]).any():
        return None
    if any(entry.is_discard or entry.size == 0 for entry in entries):  # not shown, or the frame before it once more
        return None
    keys = np.array([number for number, entry in enumerate(entries) if entry.is_keyframe], dtype=np.int64)
    return FrameTable(
        stamps=first + steps[0] * np.arange(len(decoded)),
        keys=keys,
        key_seeks=decoded[keys],
        begin=min(first, int(decoded[0])),
        packets=len(decoded),
        exact=len(keys) > 0,
    )
