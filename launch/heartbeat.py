"""Shows, while a stage runs, that its process is alive, and helps requeued jobs of the same user to start."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from launch.claims import Claim

BEAT_EVERY_S = 10.0
HELP_EVERY_S = 3.0  # a requeued job is started within ten seconds


@contextmanager
def beating(mine: Claim, help_others: Callable[[], object] | None = None) -> Iterator[None]:
    """Touch the stage's beat, and now and then call `help_others`, from a thread. Rank 0 only.

    A long evaluation may not report for minutes; its beat says that it is no corpse.
    """
    ended = threading.Event()

    def beat() -> None:
        last_s = time.monotonic()
        while not ended.wait(BEAT_EVERY_S if help_others is None else HELP_EVERY_S):
            if help_others is not None:
                with suppress(Exception):  # whatever goes wrong with another job, this one goes on
                    help_others()
            if time.monotonic() - last_s < BEAT_EVERY_S - 1:
                continue
            last_s = time.monotonic()
            with suppress(OSError, ValueError):  # the file server is away; an old beat is what others should see then
                if not mine.owns():
                    return
                mine.folder.beat.touch()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
