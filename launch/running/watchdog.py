"""Ends a stage that makes no progress: a rank that waits for ever holds its GPUs for ever."""

import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from launch.running.beside import beside
from vssl.run import Run

_LOOKS = 20  # in the time after which a stage counts as hung


@contextmanager
def watching(run: Run, hang_s: float, give_up: Callable[[str], None]) -> Iterator[None]:
    """Call `give_up` from a thread once the stage has shown no progress for `hang_s` seconds.

    The stacks of all threads are printed before. Time counts look by look, so a process that was suspended, or a laptop
    that slept, has not hung.

    Args:
        run: whose signs of progress are watched.
        hang_s: how long they may stay away.
        give_up: records the reason it is given, and ends the process.
    """
    every_s = min(hang_s / _LOOKS, 30.0)

    def watch(ended: threading.Event) -> None:
        signs, idle_s, last_s = run.signs, 0.0, time.monotonic()
        while not ended.wait(every_s):
            now_s = time.monotonic()
            idle_s, last_s = idle_s + min(now_s - last_s, 2 * every_s), now_s
            if run.signs != signs:
                signs, idle_s = run.signs, 0.0
            elif idle_s >= hang_s:
                print(f"no progress for {hang_s / 60:g} min; where every thread is:", file=sys.stderr, flush=True)
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                give_up(f"no progress for {hang_s / 60:g} min; the log holds where each thread was")
                return

    with beside(watch):
        yield
