"""The probe: a stage that only exercises the launcher. Torch-free.

It hashes its way through some steps, saves after each, stops when asked; fails, hangs or is killed on request. Its
state depends on the seed, the steps and its inputs alone, so an interrupted probe must end with the same bytes as a
calm one. Several ranks go in step and agree on a stop, as those of a training do.
"""

import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vssl.artifacts import Inputs, create_json, read_json, sha256_text, write_json
from vssl.run import LostRankError, Run, Stopped
from vssl.stages.probe_config import ProbeConfig


def run(config: ProbeConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Do the steps.

    Returns:
        `steps`, and `value`: a number in [0, 1) that follows from seed, steps and inputs.

    Raises:
        Stopped: asked to stop; the state is saved.
        RuntimeError: at step `fail_at`.
        LostRankError: another rank has died.
    """
    rank, ranks = (int(os.environ.get(name) or default) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    meeting = os.environ.get("VSSL_RENDEZVOUS")
    writes = rank == 0
    saved = run.folder.checkpoints / "state.json"
    state = read_json(saved) or {"step": 0, "value": _begin(config, inputs), "journal_offset": 0}
    if writes:
        run.journal.truncate(state["journal_offset"])
    for step in range(state["step"], config.steps):
        stop = run.should_stop()
        if ranks > 1 and meeting:
            stop = _any_true(Path(meeting), rank, ranks, step, stop)
        if stop:
            raise Stopped(f"after step {step}")
        if rank == config.rank:
            _misfortune(config, run, step)
        time.sleep(config.step_s)
        state = {"step": step + 1, "value": sha256_text(f"{state['value']}/{step}"), "journal_offset": 0}
        if writes:
            run.log(step, {"value": _fraction(state["value"])})
            run.check_ownership()
            time.sleep(config.save_s)
            write_json(saved, {**state, "journal_offset": run.journal.sync()})
            run.beat(step + 1, config.steps)
    if writes:
        run.check_ownership()
        write_json(run.artifact("state"), {"seed": config.seed, "value": state["value"]})
    return {"steps": float(config.steps), "value": _fraction(state["value"])}


def _any_true(meeting: Path, rank: int, ranks: int, step: int, flag: bool) -> bool:
    """Whether any rank raised its flag at this step; waits for all of them, for ever if need be, as a collective does.

    Who is ahead by a step has seen no flag in the last one: it would have stopped.

    Raises:
        LostRankError: the process of another rank, on this machine, is gone.
    """
    me = {"host": socket.gethostname(), "pid": os.getpid()}
    write_json(meeting.with_suffix(f".{rank}.json"), {"step": step, "flag": flag, **me})
    flags = [flag]
    for other in range(ranks):
        path = meeting.with_suffix(f".{other}.json")
        while _is_missing(vote := read_json(path), step):
            if vote is not None and vote["host"] == me["host"] and _is_gone(vote["pid"]):
                if not _is_missing(vote := read_json(path), step):
                    break  # its last vote, and then it ended
                raise LostRankError(f"rank {other} on {me['host']} is gone")
            time.sleep(0.01)
        flags.append(vote["step"] <= step and vote["flag"])
    return any(flags)


def _is_missing(vote: Mapping[str, Any] | None, step: int) -> bool:
    """Whether a rank has not voted at this step; one that has stopped before never will."""
    return vote is None or (vote["step"] < step and not vote["flag"])


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"  # ended, if not yet reaped
    except OSError:
        return True


def _misfortune(config: ProbeConfig, run: Run, step: int) -> None:
    """What the config asks to happen to this rank at this step."""
    if step == config.fail_at:
        raise RuntimeError(f"the probe fails at step {step}, as its config asks")
    while step == config.hang_at:
        time.sleep(1)
    if step == config.kill_at and create_json(run.folder.checkpoints / "killed.json", {"step": step}):
        os.kill(os.getpid(), signal.SIGKILL)


def _begin(config: ProbeConfig, inputs: Inputs) -> str:
    digests = [artifact.digest for artifact in inputs.get("before", ())]
    return sha256_text("/".join([str(config.seed), *digests]))


def _fraction(value: str) -> float:
    return int(value[:8], 16) / 2**32
