"""Disk space that videos will need, told before the first of them is made."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vssl.run import StageError

_MEASURED = 2**32  # pixels that have been written, from which on the rate is theirs


@dataclass
class Estimate:
    """Space for the videos that are still to be made.

    Args:
        place: folder that they go to.
        pixels: of all their frames together.
        bits: per pixel, as a first guess.
        say: takes lines for the person who watches.
    """

    place: Path
    pixels: int
    bits: float
    say: Callable[[str], None]
    _seen: int = field(default=0, init=False)
    _written: int = field(default=0, init=False)
    _look_at: int = field(default=_MEASURED, init=False)

    def begin(self) -> None:
        """
        Raises:
            StageError: the disk cannot hold them.
        """
        if self.pixels:
            self.say(f"about {said(self._need)} to be written, {said(self._free)} free under {self.place}")
        self._refuse_full()

    def wrote(self, size: int, pixels: int) -> None:
        """One of them is made; from time to time the guess gives way to what the others were like.

        Raises:
            StageError: the disk will not hold those that remain.
        """
        self._seen += pixels
        self._written += size
        self.pixels -= pixels
        if self._seen >= self._look_at:
            self._look_at *= 2
            self.bits = 8 * self._written / self._seen
            self._refuse_full()

    @property
    def _need(self) -> float:
        return self.pixels * self.bits / 8

    @property
    def _free(self) -> int:
        return shutil.disk_usage(self.place).free

    def _refuse_full(self) -> None:
        if self._need > self._free:
            raise StageError(
                f"the videos that remain need about {said(self._need)} ({self.bits:.2g} bits a pixel), and "
                f"{said(self._free)} are free under {self.place}; free some, name a larger disk for this kind by "
                "store.artifact_root, or choose a smaller encoding; what is made is kept, and the same line goes on"
            )


def said(size: float) -> str:
    """A number of bytes, for people."""
    for unit, of in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= of:
            return f"{size / of:,.3g} {unit}"
    return f"{size / 1e3:,.0f} kB"
