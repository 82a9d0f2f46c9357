"""How a stage learns that it is to save and stop: a signal, or the end of its time."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from launch.running.beside import beside
from launch.running.claims import now_ms

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
TIME_LIMIT = "time_limit"
_ASK_EVERY_S = 300.0  # when a job ends, while nobody could say


class StopFlag:
    """Set by the first reason to stop; stages look at it between steps."""

    def __init__(self) -> None:
        self.reason = ""  # name of the signal, or TIME_LIMIT
        self.at_ms: int | None = None

    def set(self, reason: str) -> None:
        if not self.reason:
            self.at_ms = now_ms()
            self.reason = reason

    def is_set(self) -> bool:
        return bool(self.reason)

    def listen(self) -> None:
        """Take the signals, until the process ends: one that comes while Python tidies up must not change its code."""

        def on_signal(number: int, frame: FrameType | None) -> None:
            self.set(signal.Signals(number).name)

        for number in STOP_SIGNALS:
            signal.signal(number, on_signal)
        signal.signal(signal.SIGCONT, signal.SIG_IGN)  # comes before every signal of a preemption, and says nothing

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals for the length of a block."""
        before = {number: signal.getsignal(number) for number in (*STOP_SIGNALS, signal.SIGCONT)}
        self.listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def stopping_before(
    stop: StopFlag, end_s: float | None, delay_s: float, ask: Callable[[], float | None]
) -> Iterator[None]:
    """Set the flag `delay_s` before a job's time is over, also where the scheduler sends no signal.

    Args:
        stop: the flag.
        end_s: when the time is over, as far as known; None: not known yet.
        delay_s: how long before that.
        ask: tells the end anew, since administrators prolong jobs; None where nobody answers.
    """

    def watch(ended: threading.Event) -> None:
        end = end_s
        while not stop.is_set():
            wait_s = _ASK_EVERY_S if end is None else end - delay_s - time.time()
            if ended.wait(max(0.0, min(wait_s, _ASK_EVERY_S))):
                return
            if end is None or time.time() >= end - delay_s:
                known, end = end, ask() or end
                if end is not None and end == known:
                    stop.set(TIME_LIMIT)

    with beside(watch):
        yield
