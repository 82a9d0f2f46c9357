"""The process that every process of a sandbox descends from, so that none can outlive the sandbox.

Daemons leave their session and job steps outlive their daemon, so neither process groups nor a parent's death signal
reach them all. Linux hands orphans to the nearest ancestor that asked for them: that is this process. It runs as long
as its standard input is open, which the kernel closes for whatever reason its owner ends, then kills what descends
from it, and removes the folder that it was given, if any.

It takes one JSON object a line, {"start": [words], "environment": {}, "log": path} or {"ended": process id}, and
answers each in a line.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36

ended: list[tuple[int, int]] = []  # process ids with their exit codes, in order; an id may come again
begun: dict[int, int] = {}  # id of a daemon -> how many processes had ended before it began


def reap(*_: object) -> None:
    """Note how children ended. Adopted ones too: a job step that nobody waits for would look alive to Slurm."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process == 0:
            return
        ended.append((process, os.waitstatus_to_exitcode(status)))


def descendants() -> set[int]:
    """Every process below this one, from /proc."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # gone meanwhile
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found: set[int] = set()
    new = [os.getpid()]
    while new:
        new = [child for parent in new for child in children.get(parent, ()) if child not in found]
        found.update(new)
    return found


def answer(request: dict[str, Any]) -> dict[str, Any]:
    if "ended" in request:
        daemon = request["ended"]
        return {"code": next((code for process, code in ended[begun[daemon] :] if process == daemon), None)}
    before = len(ended)
    with open(request["log"], "ab") as log:
        try:
            child = subprocess.Popen(
                request["start"],
                env=request["environment"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return {"error": str(error)}
    begun[child.pid] = before
    child.returncode = 0  # reaped here, by the signal's handler
    return {"pid": child.pid}


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the owner gets them too, and closes the input when it ends
    signal.signal(signal.SIGCHLD, reap)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
    while left := descendants():
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        reap()
        time.sleep(0.01)
    for folder in sys.argv[1:]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
