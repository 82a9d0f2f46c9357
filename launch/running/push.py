"""A job's stage pushed to a tracking server by a process beside it: `python -m launch.running.push PIPELINE STAGE S`.

It looks every S seconds whether there is something new, and a last time when its standard input says that the stage
has ended; S = 0 pushes once. The training never waits for it, never dies of it, and shares nothing with it but the
files of the stage: whatever does not get through is brought by the next attempt, or by `vssl sync`.
"""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from launch.provenance import search_path
from launch.running.pushing import warn
from vssl.tracking import StageSync, is_server

PUSH_EVERY_S = 30.0
END_WAIT_S = 60.0  # from the end of a stage to the end of its last push
STOP_WAIT_S = 1.0  # the same for a stage that was asked to stop: its seconds are counted
ONCE_WAIT_S = 60.0
_OF_THE_JOB = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # Slurm sends them to every process of a step


def pushes_itself(environment: Mapping[str, str]) -> bool:
    """Whether jobs push: on Slurm, to a server. A database file is pushed to from where its user sits."""
    on_slurm = environment.get("VSSL_LAUNCHED") == "1" and "SLURM_ARRAY_JOB_ID" in environment
    return on_slurm and is_server(environment.get("MLFLOW_TRACKING_URI", ""))


@contextmanager
def pushing_stage(
    pipeline: Path, stage: str, stopping: Callable[[], bool], every_s: float = PUSH_EVERY_S
) -> Iterator[None]:
    """Push a stage while the block runs, and what is left at its end. Rank 0 only.

    Args:
        pipeline: the pipeline's folder.
        stage: its name in the plan.
        stopping: whether the stage was asked to stop, so that nobody may wait.
        every_s: seconds between two looks.
    """
    child = _start(pipeline, stage, every_s) if pushes_itself(os.environ) else None
    try:
        yield
    finally:
        if child is not None and not _finish(child, STOP_WAIT_S if stopping() else END_WAIT_S) and not stopping():
            warn(f"the last push was not done {END_WAIT_S:.0f} s after the stage", pipeline.name)


def push_once(pipeline: Path, stage: str) -> None:
    """Push a stage whose own job could not, as after SIGKILL; bounded, and silent about what it cannot do."""
    child = _start(pipeline, stage, 0.0) if pushes_itself(os.environ) else None
    if child is not None:
        _finish(child, ONCE_WAIT_S)


def _start(pipeline: Path, stage: str, every_s: float) -> "subprocess.Popen[bytes] | None":
    words = [sys.executable, "-u", "-P", "-m", "launch.running.push", str(pipeline), stage, str(every_s)]
    environment = {**os.environ, "PYTHONPATH": search_path(), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        return subprocess.Popen(words, env=environment, stdin=subprocess.PIPE)
    except OSError as error:
        warn(f"no process could be started for it ({error})", pipeline.name)
        return None


def _finish(child: "subprocess.Popen[bytes]", wait_s: float) -> bool:
    """Let it end, and end it; whether it ended by itself, and so has said what it had to say."""
    with suppress(OSError, subprocess.TimeoutExpired):
        child.communicate(b"the end", timeout=wait_s)
    ended = child.poll() is not None
    with suppress(OSError):
        child.kill()
    child.wait()
    return ended


def main(arguments: list[str] | None = None) -> int:
    """What the process does; returns its exit code."""
    pipeline, stage, seconds = sys.argv[1:] if arguments is None else arguments
    every_s, parent = float(seconds), os.getppid()
    for number in _OF_THE_JOB:
        signal.signal(number, signal.SIG_IGN)
    os.nice(19)
    try:
        push = StageSync(Path(pipeline), stage, os.environ["MLFLOW_TRACKING_URI"])
    except (OSError, ValueError) as error:
        warn(str(error), Path(pipeline).name)
        return 1
    said, ended = "", every_s == 0
    while True:
        problem = _push(push)
        if problem and (ended or not said):
            warn(problem, Path(pipeline).name)
        if ended:
            return 1 if problem else 0
        said = problem
        ended = _has_ended(parent, every_s)


def _has_ended(parent: int, wait_s: float) -> bool:
    """Wait for the word that the stage has ended; also where its process is gone without one."""
    heard, _, _ = select.select([sys.stdin], [], [], wait_s)
    return bool(heard) or os.getppid() != parent


def _push(push: StageSync) -> str:
    try:
        return push.push().problem
    except Exception as error:  # whatever a tracker does, the results are in the store
        return (str(error).strip().splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    sys.exit(main())
