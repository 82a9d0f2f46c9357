"""Waiting for what other processes and threads do."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain"
        time.sleep(0.01)
