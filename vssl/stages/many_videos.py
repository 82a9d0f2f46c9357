"""Work on the videos of a dataset, each by itself, in processes of their own, until it is done or asked to stop."""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

from vssl.data.preparing.isolation import Lost, isolated
from vssl.progress import track
from vssl.run import Run, StageError, Stopped

T = TypeVar("T")
R = TypeVar("R")


def over_videos(
    work: Callable[[T], R],
    videos: Sequence[T],
    run: Run,
    *,
    what: str,
    workers: int,
    seconds: Callable[[T], float],
    memory_gb: float,
) -> Iterator[tuple[T, R | Lost]]:
    """(video, what `work` made of it), as they come.

    Args:
        work: called in another process, which may be ended at any moment.
        videos: what to work on.
        run: is told of progress, and asked whether to stop, once a second.
        what: the work's name.
        workers: processes, as far as there are cores; 0 works in this one, and looks up between videos only.
        seconds, memory_gb: what a video may take, in processes of their own.

    Raises:
        Stopped: asked to stop; what was yielded is done.
        StageError: as raised by `work`.
    """
    done = 0

    def look() -> None:
        run.beat(done, len(videos))
        if run.should_stop():
            raise Stopped(f"{what}: {done} of {len(videos)} videos that remained are done and kept")

    if workers < 1:
        made: Generator[tuple[T, R | Lost], None, None] = ((video, work(video)) for video in videos)
    else:
        cores = len(os.sched_getaffinity(0))
        made = isolated(work, videos, min(workers, cores), seconds=seconds, memory_gb=memory_gb, while_waiting=look)
    try:
        for video, answer in track(made, len(videos), what, run.say):
            done += 1
            yield video, answer
            look()
    except RuntimeError as error:
        if isinstance(error.__cause__, StageError):
            raise error.__cause__ from None
        raise
    finally:
        made.close()
