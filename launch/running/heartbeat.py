"""Shows, while a stage runs, that its process is alive, and helps requeued jobs of the same user to start."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from launch.running.beside import beside
from launch.running.claims import Claim

BEAT_EVERY_S = 10.0
HELP_EVERY_S = 3.0  # a requeued job is started within ten seconds


@contextmanager
def beating(mine: Claim, help_others: Callable[[], object] | None = None) -> Iterator[None]:
    """Touch the stage's beat, and now and then call `help_others`, from threads. Rank 0 only.

    A long evaluation may not report for minutes; its beat says that it is no corpse.
    """

    def beat(ended: threading.Event) -> None:
        while not ended.wait(BEAT_EVERY_S):
            with suppress(OSError, ValueError):  # the file server is away; an old beat is what others should see then
                if not mine.owns():
                    return
                mine.folder.beat.touch()

    def lend_a_hand(ended: threading.Event) -> None:
        while help_others is not None and not ended.wait(HELP_EVERY_S):
            with suppress(Exception):  # whatever goes wrong with another job, this one goes on
                help_others()

    # One thread each: a controller that is silent for minutes must not make this stage look dead.
    with beside(beat, lend_a_hand):
        yield
