"""Start, watch and end processes through the keeper, which sees to it that none of them is left over."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
PATIENCE_S = 120.0  # a busy machine may take a while, and a test that passes waits for nothing


class SandboxError(Exception):
    """A sandbox cannot do what was asked of it; the message says which daemon, and how its log ends."""


class Daemons:
    """Named processes that end with this object, or with this process however it ends.

    Args:
        logs: folder for what the daemons say on their standard output and error, `<name>.out`.
        removed: folder that goes when the last process has gone.
    """

    def __init__(self, logs: Path, removed: Path | None = None) -> None:
        self.logs = logs
        self._processes: dict[str, int] = {}
        self._keeper = subprocess.Popen(
            [sys.executable, "-IS", str(Path(__file__).with_name("keeper.py")), *([str(removed)] if removed else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is for the owner
        )

    def spawn(self, name: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
        program = shutil.which(words[0], path=SEARCH) or words[0]
        request = {"start": [program, *words[1:]], "environment": dict(environment), "log": str(self.output(name))}
        answer = self._ask(request)
        if "error" in answer:
            raise SandboxError(f"{name} cannot be started: {answer['error']}")
        self._processes[name] = answer["pid"]

    def output(self, name: str) -> Path:
        return self.logs / f"{name}.out"

    def is_up(self, name: str) -> bool:
        return name in self._processes and self._code(name) is None

    def send(self, name: str, number: signal.Signals) -> None:
        if self.is_up(name):
            os.kill(self._processes[name], number)

    def wait_for(self, name: str, question: Callable[[], bool]) -> None:
        """Wait until a daemon does as asked; how its output ends is the error if it ends itself, or takes too long."""
        deadline = time.monotonic() + PATIENCE_S
        while not question():
            code = self._code(name)
            if code is not None or time.monotonic() > deadline:
                what = f"{name} ended with {code}" if code is not None else f"{name} not up after {PATIENCE_S:.0f} s"
                raise SandboxError(f"{what}; it said:\n{tail(self.output(name).read_text(errors='replace'))}")
            time.sleep(0.02)

    def finish(self, name: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run a program to its end."""
        self.spawn(name, words, environment)
        wait_until(lambda: not self.is_up(name), f"the end of {name}")
        if (code := self._code(name)) != 0:
            raise SandboxError(
                f"{name} ended with {code}; it said:\n{tail(self.output(name).read_text(errors='replace'))}"
            )

    def close(self) -> None:
        """End them all, with everything that descends from them."""
        self._keeper.communicate()  # closes its input, which is the sign for it; returns when all are gone

    def _code(self, name: str) -> int | None:
        code: int | None = self._ask({"ended": self._processes[name]})["code"]
        return code

    def _ask(self, request: Mapping[str, Any]) -> Any:
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.write(json.dumps(request) + "\n")
        self._keeper.stdin.flush()
        return json.loads(self._keeper.stdout.readline())


def reserve_port() -> socket.socket:
    """A port that stays taken for everybody who looks for a free one, and that a daemon can listen on nevertheless.

    Of two sockets that both allow reuse, Linux refuses the second one a port only if the first one listens.
    """
    held = socket.socket()
    held.bind(("", 0))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return held


def answers(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def wait_until(question: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Ask again and again until the answer is yes.

    Raises:
        SandboxError: not within the time.
    """
    deadline = time.monotonic() + timeout_s
    while not question():
        if time.monotonic() > deadline:
            raise SandboxError(f"waited {timeout_s:.0f} s for {what} in vain")
        time.sleep(0.05)


def tail(text: str, lines: int = 20) -> str:
    return "\n".join(text.splitlines()[-lines:])
