"""Work beside a block, in threads that end with it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def beside(*works: Callable[[threading.Event], object]) -> Iterator[None]:
    """Give each a thread of its own, and an event that is set when the block ends; nobody waits for them then."""
    ended = threading.Event()
    for work in works:
        threading.Thread(target=work, args=(ended,), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
