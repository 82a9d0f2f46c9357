"""What a node runs: guard, claim, stage, record. `python -m launch.job <batch folder> <index>`.

Rank 0 decides and writes; the other ranks follow its claim. The stage itself saves and resumes by looking into its own
folder, so a requeued job is the same command again. Nothing here imports torch: the stage's own function does.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from launch.claims import Claim, ElsewhereError, claim, newest
from launch.completion import complete
from launch.elements import Element, read_element
from launch.exit_codes import BAD_INPUT, DONE, FAILED, REFUSED, TRY_AGAIN
from launch.guard import RefusedError, resolve_inputs
from launch.provenance import code_digest, versions
from launch.store import Store, is_full, recorded_digests
from vssl.artifacts import Artifact, Inputs, StageFolder, read_json, write_json, write_text
from vssl.config import ConfigError, build
from vssl.run import Run, StageError, Stopped
from vssl.stages import STAGES

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
BEAT_EVERY_S = 10.0
CLAIM_WAIT_S = 120.0  # other ranks: for rank 0's guard and claim
SAVE_WAIT_S = 600.0  # other ranks: for rank 0's record that the checkpoint is saved


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Which process of which launch this is."""

    rank: int = 0
    ranks: int = 1
    nonce: str  # shared by all ranks of one launch

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Launch":
        """Read our own variables, or Slurm's beside our marker; a plain python is rank 0 of 1."""
        slurm = environment if environment.get("VSSL_LAUNCHED") == "1" else {}
        rank = int(environment.get("RANK") or slurm.get("SLURM_PROCID") or 0)
        ranks = int(environment.get("WORLD_SIZE") or slurm.get("SLURM_NTASKS") or 1)
        nonce = environment.get("VSSL_ATTEMPT", "")
        if ranks > 1 and not nonce:
            raise ConfigError("VSSL_ATTEMPT is not set: the ranks of one launch share a value that no other launch has")
        return cls(rank=rank, ranks=ranks, nonce=nonce or os.urandom(6).hex())


class StopFlag:
    """Set by the first stop signal; stages look at it between steps."""

    def __init__(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    @contextmanager
    def listening(self) -> Iterator[None]:
        def on_signal(number: int, frame: FrameType | None) -> None:
            self._set = True

        before = {number: signal.signal(number, on_signal) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    environment = os.environ
    try:
        if len(words) == 1 and environment.get("VSSL_LAUNCHED") == "1" and environment.get("SLURM_ARRAY_TASK_ID"):
            words = [*words, environment["SLURM_ARRAY_TASK_ID"]]
        if len(words) != 2 or not words[1].isdigit():
            raise ConfigError(f"expected a batch folder and an index, got {words!r}")
        element, store = read_element(Path(words[0]), int(words[1]))
        return run_element(element, store, Launch.from_environment(environment), batch=Path(words[0]).name)
    except ConfigError as error:
        return _say(error, BAD_INPUT)
    except RefusedError as error:
        return _say(error, REFUSED)
    except ElsewhereError as error:
        return _say(error, TRY_AGAIN)


def run_element(element: Element, store: Store, launch: Launch, batch: str = "") -> int:
    """Run one stage of a batch as one rank of a launch.

    Returns:
        0 done; 1 failed, with the reason in the attempt's record; 75 stopped and saved.

    Raises:
        ConfigError: the config or the store cannot be used.
        RefusedError: the guard refused.
        ElsewhereError: another process owns the stage.
    """
    kind = STAGES[element.kind]
    config = build(kind.config_class(), element.config)
    runtime = getattr(config, "runtime", None)
    if runtime is not None:  # read once by the numerical libraries, when they are imported
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(runtime.threads)
        # Idle threads sleep: on a machine with other work, threads that spin for it made a step ten times slower.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    stop = StopFlag()
    with stop.listening():
        if launch.rank == 0:
            inputs = resolve_inputs(element, store)
            if _is_done(element, store, inputs):
                print(f"{element.name} is done already", flush=True)
                return DONE
            mine = _begin(element, store, launch, inputs, batch)
            if read_json(mine.folder.done) is not None:  # another attempt completed it just before this claim
                mine.withdraw()
                return DONE
        else:
            mine = _join(store.stage(element.folder), launch, stop)
            inputs = _inputs_of(mine.record)
        run = Run(mine.folder, stop_requested=stop.is_set, owns=mine.owns)
        with _beating(mine, launch):
            return _execute(element, config, inputs, run, mine, launch)


def _is_done(element: Element, store: Store, inputs: Inputs) -> bool:
    """Whether the stage is complete, from these inputs.

    Raises:
        RefusedError: what lies in its folder was made from other inputs.
    """
    folder = store.stage(element.folder)
    wanted = recorded_digests({"inputs": _inputs_record(element, inputs)})
    done = read_json(folder.done)
    for record in (done, read_json(folder.inputs)):
        if record is not None and recorded_digests(record) != wanted:
            raise RefusedError(
                f"{element.name} was not started: {folder.root} was made from inputs that have changed since; "
                "submit again, and the old folder is set aside"
            )
    return done is not None


def _begin(element: Element, store: Store, launch: Launch, inputs: Inputs, batch: str) -> Claim:
    """Rank 0: make the folder, claim it, write down what is about to happen."""
    described = {
        role: [{"type": one.type, "path": str(one.path), "digest": one.digest, "origin": one.origin} for one in ones]
        for role, ones in inputs.items()
    }
    facts = {
        "name": element.name,
        "pipeline": element.pipeline,
        "batch": batch,
        "ranks": launch.ranks,
        "code": code_digest(),
        "versions": versions(),
        "inputs": described,
    }
    with store.writing():
        folder = store.prepare_folder(element.folder, element.kind)
        mine = claim(folder, launch.nonce, facts, visibility_s=store.visibility_s)
        identity = {"kind": element.kind, "version": STAGES[element.kind].version, "stage_id": element.stage_id}
        write_json(folder.config, {**identity, "config": dict(element.config)})
        write_json(folder.inputs, {"inputs": _inputs_record(element, inputs)})
        folder.rendezvous.mkdir(exist_ok=True)
        folder.beat.touch()
    return mine


def _join(folder: StageFolder, launch: Launch, stop: StopFlag) -> Claim:
    """Another rank: wait for rank 0's claim."""
    deadline = time.monotonic() + CLAIM_WAIT_S
    while time.monotonic() < deadline and not stop.is_set():
        last = newest(folder)
        if last is not None and last["nonce"] == launch.nonce:
            return Claim(folder, last["token"], last)
        time.sleep(0.05)
    raise ElsewhereError(f"rank {launch.rank} saw no claim of rank 0 in {folder.attempts} within {CLAIM_WAIT_S:.0f} s")


def _execute(element: Element, config: Any, inputs: Inputs, run: Run, mine: Claim, launch: Launch) -> int:
    started = time.monotonic()
    try:
        metrics = STAGES[element.kind].load()(config, inputs, run)
        if launch.rank == 0:
            complete(element, _inputs_record(element, inputs), metrics, run, mine, time.monotonic() - started)
    except Stopped as stopped:
        if launch.rank == 0:
            mine.finish("saved", TRY_AGAIN)
            run.say(f"{element.name} stopped and saved: {stopped}")
        else:
            _wait_for_outcome(mine)
        return TRY_AGAIN
    except ConfigError as error:
        return _fail(mine, launch, error, BAD_INPUT)
    except Exception as error:  # whatever a stage raises is recorded with its traceback, and never retried
        return _fail(mine, launch, error, FAILED)
    finally:
        run.journal.close()
    return DONE


def _wait_for_outcome(mine: Claim) -> None:
    """Never leave before rank 0 has saved: a rank that exits in between makes the scheduler kill the others."""
    deadline = time.monotonic() + SAVE_WAIT_S
    while time.monotonic() < deadline and mine.owns() and "outcome" not in (read_json(mine.path) or {}):
        time.sleep(0.05)


def _fail(mine: Claim, launch: Launch, error: Exception, code: int) -> int:
    known = isinstance(error, StageError | ConfigError)
    reason = str(error) if known else traceback.format_exception_only(error)[-1].strip()
    if is_full(error):
        known = True
        reason = (
            f"no space left under {mine.folder.root} ({reason}); free some: the same line goes on from what was saved"
        )
    text = "".join(traceback.format_exception(error))
    print(reason if known else text, file=sys.stderr, flush=True)
    try:
        write_text(traceback_path(mine.folder, mine.token, launch.rank), text)
        if launch.rank == 0:
            mine.finish("failed", code, reason)
    except OSError as also:  # a full disk is often the very reason; the log then has the only record
        print(f"and the failure could not be recorded: {also}", file=sys.stderr, flush=True)
    return code


def traceback_path(folder: StageFolder, token: int, rank: int) -> Path:
    return folder.logs / f"{token}-rank{rank}.traceback"


@contextmanager
def _beating(mine: Claim, launch: Launch) -> Iterator[None]:
    """Show, while the stage runs, that its process is alive: a long evaluation may not report for minutes."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_EVERY_S):
            try:
                if not mine.owns():
                    return
                mine.folder.beat.touch()
            except OSError:
                continue  # the file server is away; an old beat is what others should see then

    thread = threading.Thread(target=beat, daemon=True)
    if launch.rank == 0:
        thread.start()
    try:
        yield
    finally:
        ended.set()


def _inputs_record(element: Element, inputs: Inputs) -> dict[str, list[dict[str, str]]]:
    return {
        role: [
            {"id": wanted.id, "type": found.type, "digest": found.digest, "origin": found.origin}
            for wanted, found in zip(element.inputs[role], ones)
        ]
        for role, ones in inputs.items()
    }


def _inputs_of(attempt: Mapping[str, Any]) -> dict[str, tuple[Artifact, ...]]:
    return {
        role: tuple(Artifact(**{**one, "path": Path(one["path"])}) for one in ones)
        for role, ones in attempt["inputs"].items()
    }


def _say(error: Exception, code: int) -> int:
    print(str(error), file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
