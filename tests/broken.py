"""Damaged video files in every way that a fuzzer makes of them, each with what has to become of it."""

import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import av

from tests.films import film

SUFFIXES = (".mp4", ".avi", ".webm", ".mkv")
_PADDING = {  # a legal element that changes a file's digest and nothing else
    ".mp4": lambda n: struct.pack(">I4sI", 12, b"free", n),
    ".avi": lambda n: struct.pack("<4sII", b"JUNK", 4, n),
    ".webm": lambda n: b"\xec\x84" + struct.pack(">I", n),
    ".mkv": lambda n: b"\xec\x84" + struct.pack(">I", n),
}


@dataclass(frozen=True)
class Broken:
    """A way to damage a file."""

    damage: Callable[[bytes, random.Random], bytes]
    surely: bool  # whether nobody could read the result; else a reader may be lucky


def good_files(folder: Path) -> dict[str, bytes]:
    """Suffix -> a whole film of each container, and `.wav` of an audio file without a picture."""
    files = {suffix: film(folder / f"good{suffix}", frames=8).read_bytes() for suffix in SUFFIXES}
    with av.open(str(folder / "sound.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=8000)
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.planes[0].update(bytes(4096))
        frame.rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return files | {"sound": (folder / "sound.mp4").read_bytes()}


def unique(data: bytes, suffix: str, number: int) -> bytes:
    """The same film with a digest of its own."""
    return data + _PADDING[suffix](number)


def ways(files: Mapping[str, bytes]) -> dict[str, Broken]:
    """Every way that is known here."""
    return {
        "empty": Broken(lambda data, rng: b"", True),
        "truncated": Broken(lambda data, rng: data[: rng.randrange(len(data) // 8, len(data) * 2 // 3)], True),
        "a few bytes": Broken(lambda data, rng: data[: rng.randrange(1, 16)], True),
        "text": Broken(lambda data, rng: b"this is no video, " * rng.randrange(1, 200), True),
        "noise": Broken(lambda data, rng: rng.randbytes(rng.randrange(1, 4000)), True),
        "zeros": Broken(lambda data, rng: bytes(len(data)), True),
        "no video stream": Broken(lambda data, rng: files["sound"], True),
        "playlist": Broken(lambda data, rng: b"#EXTM3U\n#EXTINF:9,\nhttp://192.0.2.1/never.ts\n", True),
        "script of files": Broken(lambda data, rng: b"ffconcat version 1.0\nfile '/etc/hostname'\n", True),
        "flipped bytes": Broken(_flip, False),
        "flipped header": Broken(lambda data, rng: _flip(data[:400], rng) + data[400:], False),
        "absurd sizes": Broken(_absurd, False),
        "a hole": Broken(_hole, False),
        "swapped halves": Broken(lambda data, rng: data[len(data) // 2 :] + data[: len(data) // 2], False),
        "another type's name": Broken(lambda data, rng: files[rng.choice(SUFFIXES)], False),
    }


def _flip(data: bytes, rng: random.Random) -> bytes:
    flipped = bytearray(data)
    for _ in range(rng.randrange(1, max(2, len(data) // 50))):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _hole(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + bytes(min(rng.randrange(1, 800), len(data) - start)) + data[start + 800 :]


def _absurd(data: bytes, rng: random.Random) -> bytes:
    """Huge numbers where headers keep sizes, counts, widths and rates."""
    changed = bytearray(data)
    boxes = [b"moov", b"trak", b"stsz", b"stco", b"stts", b"stsc", b"tkhd", b"avc1", b"mdat"]
    chunks = [b"avih", b"strh", b"strf", b"idx1", b"movi"]
    elements = [b"\x1f\x43\xb6\x75", b"\x16\x54\xae\x6b", b"\xb0", b"\xba", b"\xa3"]  # cluster, tracks, sizes, block
    for mark in rng.sample([*boxes, *chunks, *elements], 6):
        place = data.find(mark)
        if place >= 0:
            where = place + rng.choice([-4, 4, 8, 12, 24, 28, 32])
            for offset, value in enumerate(rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\xff\xff"])):
                if 0 <= where + offset < len(changed):
                    changed[where + offset] = value
    return bytes(changed)
