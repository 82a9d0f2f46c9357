"""Pushes journals to the tracker while the queue runs. Training never waits for it and never dies of it."""

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from launch.running.redaction import redact

PUSH_EVERY_S = 20.0


class Pusher:
    """A thread of the queue's process; stages themselves only write their journals.

    Args:
        pipeline: the pipeline's folder.
        uri: of the tracker; None: its default.
        read: roots of the other stores whose finished stages the pipeline uses.
    """

    def __init__(self, pipeline: Path, uri: str | None, read: Sequence[Path] = ()) -> None:
        self._pipeline = pipeline
        self._uri = uri
        self._read = read
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = False

    def start(self) -> None:
        """Begin to push every few seconds; only the first call counts."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_pushing, daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Push what is left."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._push()

    def _keep_pushing(self) -> None:
        while not self._ended.wait(PUSH_EVERY_S):
            self._push()

    def _push(self) -> None:
        try:
            from vssl.tracking import needs_sync, sync

            if not needs_sync(self._pipeline, self._uri, self._read):
                return
            problem = sync(self._pipeline, self._uri, read=self._read).problem
        except Exception as error:  # whatever a tracker does, the results are in the store: say it, and go on
            problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if problem and (not self._said or self._ended.is_set()):
            warn(problem, self._pipeline.name)
        self._said = bool(problem)


def warn(problem: str, pipeline: str) -> None:
    """Say that metrics did not get through, and what brings them later."""
    text = (
        f"WARNING: metrics were not pushed to MLflow: {problem}. The results are safe in the store; push them with: "
        f"vssl sync {pipeline}"
    )
    print(redact(text, os.environ), file=sys.stderr, flush=True)
