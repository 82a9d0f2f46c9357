"""Which frame a time stamp names, and where decoding has to begin for it: from a file's packets, without decoding."""

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


@dataclass(frozen=True)
class FrameTable:
    """Display order of a file's frames."""

    stamps: NDArray[np.int64]  # (frames,) ascending presentation time stamps
    keys: NDArray[np.int64]  # indices of key frames, ascending
    key_seeks: NDArray[np.int64]  # time stamp to seek to for each key frame
    packets: int  # packets met, those that show nothing included
    exact: bool  # whether every packet has its own time stamp and there is a key frame to begin at

    def index(self, stamp: int | None) -> int | None:
        """Number of the frame that is shown at this time stamp; None if there is none."""
        if stamp is None:
            return None
        index = int(self.stamps.searchsorted(stamp))
        return index if index < len(self.stamps) and self.stamps[index] == stamp else None

    def seek_stamp(self, index: int) -> int:
        """Time stamp to seek to before decoding this frame."""
        return int(self.key_seeks[max(self._key(index), 0)])

    def runs(self, wanted: Sequence[int]) -> Iterator[list[int]]:
        """Ascending frame numbers in groups; a new group begins where seeking ahead saves decoding."""
        run = [wanted[0]]
        for index in wanted[1:]:
            if self.keys[self._key(index)] - run[-1] > WORTH_SEEKING:
                yield run
                run = []
            run.append(index)
        yield run

    def _key(self, index: int) -> int:
        """The key frame at or before a frame. Frames before it in decoding order may be shown after it, so this
        compares places in display order: the only ones that a seek to the key frame is sure to bring."""
        return int(self.keys.searchsorted(index, side="right")) - 1


def frame_table(packets: Iterable[Packet]) -> FrameTable:
    """Read all packets of a video stream."""
    rows: list[tuple[int, int, bool]] = []  # presentation stamp, stamp to seek to, key frame
    met, exact = 0, True
    for packet in packets:
        if packet.size == 0:
            continue
        met += 1
        if packet.is_discard:
            continue
        stamp, decoded = packet.pts, packet.dts
        if stamp is None:
            exact = False
            continue
        rows.append((stamp, stamp if decoded is None else min(stamp, decoded), packet.is_keyframe))
    rows.sort()
    stamps = np.array([row[0] for row in rows], dtype=np.int64)
    keys = np.array([number for number, row in enumerate(rows) if row[2]], dtype=np.int64)
    return FrameTable(
        stamps=stamps,
        keys=keys,
        key_seeks=np.array([rows[key][1] for key in keys], dtype=np.int64),
        packets=met,
        exact=exact and len(keys) > 0 and bool((np.diff(stamps) > 0).all()),
    )
