"""Work on several things at once, in a few threads, until one of them fails."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def side_by_side(work: Callable[[T], None], items: Sequence[T], width: int) -> list[tuple[T, BaseException]]:
    """Call a function with each item; after the first failure none is begun any more.

    Args:
        work: may be called in other threads.
        items: in the order in which they are begun.
        width: how many calls run at a time; with 1, or for a single item, all is done in the caller's thread.

    Returns:
        The items that failed, and how, in their order. Whatever was begun has ended by then.

    Raises:
        KeyboardInterrupt: the person does not want to wait for the rest.
    """
    waiting = deque(enumerate(items))
    failures: dict[int, BaseException] = {}

    def go_on() -> None:
        while not failures:
            try:
                number, item = waiting.popleft()
            except IndexError:
                return
            try:
                work(item)
            except BaseException as error:
                failures[number] = error

    threads = [threading.Thread(target=go_on, daemon=True) for _ in range(min(width, len(items)) - 1)]
    for thread in threads:
        thread.start()
    try:
        go_on()
    finally:
        _await(threads, waiting.clear)
    return [(items[number], failures[number]) for number in sorted(failures)]


def _await(threads: Sequence[threading.Thread], leave_the_rest: Callable[[], None]) -> None:
    """Wait for the threads' end, also after a Ctrl-C: what they have begun must not go on behind the caller's back."""
    interrupt: KeyboardInterrupt | None = None
    for thread in threads:
        while thread.is_alive():
            try:
                thread.join()
            except KeyboardInterrupt as error:
                interrupt = error
                leave_the_rest()
    if interrupt is not None:
        raise interrupt
