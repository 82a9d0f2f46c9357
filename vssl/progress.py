"""Progress where a person watches: a bar in a terminal, now and then a plain line elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_LINE_EVERY_S = 30.0


def track(items: Iterable[T], total: int, what: str, say: Callable[[str], None]) -> Iterator[T]:
    """Pass items on and show how many of `total` have come."""
    if sys.stderr.isatty():
        yield from _bar(items, total, what)
        return
    last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > _LINE_EVERY_S and count < total:
            last = time.monotonic()
            say(f"{what}: {count} of {total}")


def _bar(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description=what, total=total, console=Console(stderr=True), transient=True)
