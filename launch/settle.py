"""What a batch script runs after its ranks: `python -m launch.settle <batch folder> <index> <srun's exit code>`.

It outlives what a stage does not: out of memory, SIGKILL, an abort deep in a library. It finds the cause, writes the
verdict, requeues the job once where the cause's budget allows that, and otherwise ends with the code that Slurm and the
stages below are to see. Nobody else requeues. It loads little, since it may run in the last seconds of a job.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from launch.exit_codes import BAD_INPUT, FAILED
from launch.running.allocation import Allocation
from launch.running.batch_folder import BatchFolder
from launch.running.causes import Policy, Verdict, decide
from launch.running.claims import attempt_of, close, now_ms
from launch.running.elements import Element, read_element
from launch.running.exit_records import ExitRecords
from launch.running.redaction import redact
from launch.slurm.begin_time import mark_requeued
from launch.slurm.findings import Evidence, SlurmFacts, find, is_explained, killed_ranks
from launch.slurm.restarts import log_since, verdicts
from launch.slurm.scheduler import Scheduler, SchedulerRefusedError, SchedulerSilentError
from launch.store import DEFAULT_VISIBILITY_S, Store
from vssl.artifacts import StageFolder, read_json, write_json
from vssl.config import ConfigError, build

T = TypeVar("T")
SILENCE_S = 180.0  # for which a controller that is being restarted is waited for
_ANSWER_S = 20.0
_ASK_AGAIN_S = 5.0
_TAIL_BYTES = 4096


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code of the job."""
    words = sys.argv[1:] if arguments is None else arguments
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a requeue ends the job: not before the last line below
    allocation = Allocation.from_environment(os.environ)
    if len(words) != 3 or not words[1].isdigit() or not words[2].isdigit() or allocation is None:
        print(f"expected a batch folder, an index and an exit code, in a job of ours; got {words!r}", file=sys.stderr)
        return BAD_INPUT
    try:
        return Settlement(
            Path(words[0]), int(words[1]), int(words[2]), allocation, Scheduler(timeout_s=_ANSWER_S)
        ).end()
    except (ConfigError, OSError) as error:  # the store is away, or a record is damaged
        print(f"this job could not be settled: {redact(str(error), os.environ)}", file=sys.stderr, flush=True)
        return int(words[2]) or FAILED


@dataclass(frozen=True)
class Known:
    """What the decision stands on, and what else its record holds."""

    evidence: Evidence
    progress: str
    log_bytes: Mapping[str, int]


class Settlement:
    """The end of one launch.

    Args:
        batch: folder of the batch.
        index: of the element.
        rc: of srun.
        allocation: this start of the job.
        scheduler: Slurm.
        silence_s: how long a silent controller is waited for.
    """

    def __init__(
        self,
        batch: Path,
        index: int,
        rc: int,
        allocation: Allocation,
        scheduler: Scheduler,
        *,
        silence_s: float = SILENCE_S,
    ) -> None:
        self.batch = BatchFolder(batch)
        self.index = index
        self.rc = rc
        self.allocation = allocation
        self.scheduler = scheduler
        self.silence_s = silence_s
        element, store = read_element(batch, index, DEFAULT_VISIBILITY_S)
        self.element: Element = element
        self.store: Store = store
        slurm: Mapping[str, Any] = read_json(self.batch.elements)["slurm"]
        self.ranks = int(slurm["ranks"])
        self.policy = build(Policy, slurm.get("policy") or {})

    @property
    def folder(self) -> StageFolder:
        return self.store.stage(self.element.folder)

    def end(self) -> int:
        """Decide, record, requeue or not; returns the exit code."""
        known = self._look()
        earlier = verdicts(self.batch, self.index, self.allocation.restart)
        found = find(known.evidence, self.policy.signal_delay_s)
        verdict = decide(found, self.policy, earlier, known.progress)
        verdict = replace(verdict, error=redact(verdict.error, os.environ))
        attempt = known.evidence.attempt
        if attempt is not None and verdict.cause != "done":
            close(self.folder, attempt, verdict.exit_code, verdict.error or verdict.cause.replace("_", " "))
        self._record(verdict, known)
        if verdict.decision == "requeue":
            verdict = self._requeue(verdict, known)
        self._say(verdict)
        if verdict.decision == "end" and verdict.cause != "done":
            self._push()
        return verdict.exit_code

    def _look(self) -> Known:
        earlier = verdicts(self.batch, self.index, self.allocation.restart)
        log, log_bytes = log_since(self.batch, self.index, self.ranks, earlier)
        slurm = self._ask_slurm()
        records = ExitRecords(self.batch, self.index, str(self.allocation.restart))
        found = records.read_all(self.ranks)
        attempt = attempt_of(self.folder, self.allocation.nonce)
        done = self._is_done(found, attempt)
        if not done and self.allocation.nodes > 1 and slurm is not None and slurm.is_calm:
            found = self._await_records(records, found, killed_ranks(log))
        evidence = Evidence(
            rc=self.rc,
            ranks=self.ranks,
            restart=self.allocation.restart,
            is_done=done,
            records=found,
            attempt=attempt,
            slurm=slurm,
            log=log,
            last_line=_last_line(self.batch.rank_log(self.index, 0)) or _last_line(self.batch.script_log(self.index)),
        )
        return Known(evidence, _progress(self.folder), log_bytes)

    def _ask_slurm(self) -> SlurmFacts | None:
        """What Slurm knows of this job; None where it does not say, or the node has no command to ask with."""
        try:
            return SlurmFacts.of(self._patiently(lambda: self.scheduler.show_job(self.allocation.job)) or {})
        except (SchedulerRefusedError, ConfigError):
            return None

    def _is_done(self, records: Mapping[int, Mapping[str, Any]], attempt: Mapping[str, Any] | None) -> bool:
        """Whether this launch has left the stage complete: by rank 0's word, or by the token in the record."""
        if records.get(0, {}).get("cause") == "done":
            return self.store.appears(self.folder.done)
        done = read_json(self.folder.done)
        return attempt is not None and done is not None and bool(done["token"] == attempt["token"])

    def _await_records(
        self, records: ExitRecords, found: dict[int, Mapping[str, Any]], killed: frozenset[int]
    ) -> dict[int, Mapping[str, Any]]:
        """A record that a rank wrote on another node may come into sight late. One that was killed left none."""
        deadline = time.monotonic() + self.store.visibility_s
        wanted = set(range(self.ranks)) - killed
        while not wanted <= found.keys() and not is_explained(found) and time.monotonic() < deadline:
            time.sleep(min(1.0, self.store.visibility_s / 20))
            found = records.read_all(self.ranks)
        return found

    def _record(self, verdict: Verdict, known: Known) -> None:
        slurm = known.evidence.slurm
        path = self.batch.verdict(self.index, self.allocation.restart)
        path.parent.mkdir(exist_ok=True)
        record = {
            **vars(verdict),
            "rc": self.rc,
            "at_ms": now_ms(),
            "slurm": {"job": self.allocation.job, **({} if slurm is None else vars(slurm))},
            "progress": known.progress,
            "log_bytes": known.log_bytes,
        }
        write_json(path, record)

    def _requeue(self, verdict: Verdict, known: Known) -> Verdict:
        """Put the job back into the queue, unless Slurm has done so; the verdict as it then stands."""
        marker = None
        if verdict.cause != "elsewhere":  # that one is to wait: its stage runs in another job
            with suppress(OSError, ConfigError):
                marker = mark_requeued(self.store, self.allocation.job, self.allocation.restart)
        if verdict.by_slurm:
            return verdict
        try:
            if self._put_back(sure=known.evidence.slurm is not None) is not None:
                return verdict
            why = "the controller does not answer"
        except (SchedulerRefusedError, ConfigError) as error:
            why = f"the site does not let a job requeue itself ({redact(str(error), os.environ)})"
        if marker is not None:
            marker.unlink(missing_ok=True)
        parts = [verdict.error, f"not requeued: {why}; the same line goes on from here"]
        verdict = replace(verdict, error="; ".join(filter(None, parts)), decision="end")
        self._record(verdict, known)
        return verdict

    def _put_back(self, *, sure: bool) -> bool | None:
        """One requeue; None where the controller stays silent.

        Args:
            sure: Slurm has just said that this start is the job's newest. Else it is asked before: a node that was
                lost and came back would requeue its own successor, and an answer that was lost may have been a yes.
        """

        def put_back() -> bool:
            nonlocal sure
            slurm = None if sure else SlurmFacts.of(self.scheduler.show_job(self.allocation.job))
            if slurm is None or slurm.restarts <= self.allocation.restart:
                sure = False
                self.scheduler.requeue(self.allocation.job)
            return True

        return self._patiently(put_back)

    def _patiently(self, ask: Callable[[], T]) -> T | None:
        """An answer of the controller, which may be away for a minute; None where it stays silent."""
        deadline = time.monotonic() + self.silence_s
        while True:
            try:
                return ask()
            except SchedulerSilentError:
                if time.monotonic() + _ASK_AGAIN_S > deadline:
                    return None
                time.sleep(_ASK_AGAIN_S)

    def _say(self, verdict: Verdict) -> None:
        words = verdict.cause.replace("_", " ") + (f" ({verdict.error})" if verdict.error else "")
        then = "requeued" if verdict.decision == "requeue" else f"ends with exit code {verdict.exit_code}"
        print(f"vssl: {self.element.name}: {words}; {then}", flush=True)

    def _push(self) -> None:
        """What a killed process could not bring to the tracker."""
        from launch.running.push import push_once

        push_once(self.store.pipelines / self.element.pipeline, self.element.name)


def _progress(folder: StageFolder) -> str:
    """Changes with every new checkpoint, and with every finished file of a stage that keeps what it made."""
    newest_ns = files = 0
    with suppress(FileNotFoundError):
        for entry in os.scandir(folder.checkpoints):
            if not entry.name.startswith("."):
                newest_ns = max(newest_ns, entry.stat().st_mtime_ns)
    for _, _, names in os.walk(folder.artifacts):
        files += sum(not name.endswith(".tmp") for name in names)
    return f"{newest_ns}.{files}"


def _last_line(log: Path) -> str:
    """The last line that was printed into a log; nothing where there is none."""
    try:
        with open(log, "rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = stream.read().decode(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return redact(lines[-1], os.environ) if lines else ""


if __name__ == "__main__":
    sys.exit(main())
