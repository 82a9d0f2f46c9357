"""One rank of one stage, from the guard to the record.

Rank 0 decides and writes; the other ranks follow its claim, and stop only after it has recorded that it saved: when one
leaves, Slurm kills the others. The stage itself saves and resumes by looking into its own folder, so a requeued job is
the same command again. Nothing here imports torch: the stage's own function does.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.exit_codes import DONE, FAILED, TRY_AGAIN
from launch.provenance import changed_versions, code_digest, versions
from launch.running.causes import Policy
from launch.running.claims import Claim, ElsewhereError, attempts, check_free, claim, newest
from launch.running.completion import complete
from launch.running.elements import Element
from launch.running.environment import adding_gpus, write_environment
from launch.running.exit_records import Ending, ExitRecords
from launch.running.failures import ending_of, is_known
from launch.running.guard import RefusedError, resolve_inputs
from launch.running.half_trained import begun_under, strict_refusal
from launch.running.heartbeat import beating
from launch.running.push import pushing_stage
from launch.running.ranks import Launch
from launch.running.redaction import redact
from launch.running.stopping import TIME_LIMIT, StopFlag
from launch.running.watchdog import watching
from launch.store import Store, generation, recorded_digests
from vssl.artifacts import Artifact, Inputs, StageFolder, read_json, write_json, write_text
from vssl.config import build
from vssl.run import Run, Stopped
from vssl.stages import STAGES

CLAIM_WAIT_S = 900.0  # other ranks: for rank 0's guard, which may read large inputs, and its claim
SAVE_WAIT_S = 600.0  # other ranks: for rank 0's record that the checkpoint is saved


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What one rank has to do.

    Args:
        element: the stage.
        store: where it lies.
        launch: which rank of which launch this is.
        stop: set when the stage is to save and stop.
        policy: after how long it counts as hung.
        batch: id of the batch.
        records: where rank 0 leaves its end for the others; None: there are none.
        slurm_facts: of the job, for the attempt's record.
        help_others: called now and then while the stage runs; rank 0 only.
    """

    element: Element
    store: Store
    launch: Launch
    stop: StopFlag
    policy: Policy = field(default_factory=Policy)
    batch: str = ""
    records: ExitRecords | None = None
    slurm_facts: Mapping[str, Any] | None = None
    help_others: Callable[[], object] | None = None

    @property
    def folder(self) -> StageFolder:
        return self.store.stage(self.element.folder)

    @property
    def leads(self) -> bool:
        return self.launch.rank == 0

    def run(self) -> Ending:
        """Bring the stage to an end.

        Raises:
            ConfigError: the config or the store cannot be used.
            RefusedError: the guard refused.
            ElsewhereError: another process owns the stage.
        """
        config = build(STAGES[self.element.kind].config_class(), self.element.config)
        self._set_environment(config)
        if self.leads:
            inputs = resolve_inputs(self.element, self.store)
            begun = self._lead(inputs)
        else:
            begun = self._follow()
        if isinstance(begun, Ending):
            return begun
        if not self.leads:
            inputs = _inputs_of(begun.record)
        run = Run(begun.folder, stop_requested=self.stop.is_set, owns=begun.owns)
        return self._execute(config, inputs, run, begun)

    def _set_environment(self, config: Any) -> None:
        runtime = getattr(config, "runtime", None)
        if runtime is not None:  # read once by the numerical libraries, when they are imported
            os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(runtime.threads)
            # Idle threads sleep: on a machine with other work, threads that spin for it made a step ten times slower.
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self.launch.tell_the_stage(os.environ, self.folder.rendezvous / f"{self.launch.nonce}.json")

    def _lead(self, inputs: Inputs) -> Claim | Ending:
        """Rank 0: the claim on the stage, unless there is nothing to do or no time to do it."""
        if self._is_done(inputs):
            print(f"{self.element.name} is done already", flush=True)
            return Ending(code=DONE, cause="done")
        if self.stop.is_set():
            return self._stopped("asked to stop before it began")
        mine = self._begin(inputs)
        if read_json(mine.folder.done) is not None:  # another attempt completed it just before this claim
            mine.withdraw()
            return Ending(code=DONE, cause="done")
        return mine

    def _follow(self) -> Claim | Ending:
        """Another rank: rank 0's claim, or its end where it makes none. A stop is for rank 0 to decide."""
        deadline = time.monotonic() + CLAIM_WAIT_S
        while time.monotonic() < deadline:
            if (ended := self._end_of_rank_0()) is not None:  # first: of a claim, too, it is the last word
                return Ending(code=ended["code"], cause=ended["cause"], error=ended["error"])
            last = newest(self.folder)
            if last is not None and last["nonce"] == self.launch.nonce:
                return Claim(self.folder, last["token"], last)
            time.sleep(0.05)
        raise ElsewhereError(
            f"rank {self.launch.rank} saw no claim of rank 0 in {self.folder.attempts} within {CLAIM_WAIT_S:.0f} s"
        )

    def _end_of_rank_0(self) -> Mapping[str, Any] | None:
        return None if self.records is None else self.records.read(0)

    def _is_done(self, inputs: Inputs) -> bool:
        """Whether the stage is complete, from these inputs.

        On Slurm a folder that was made from others is set aside: there is no queue that does it before.

        Raises:
            RefusedError: what lies in its folder was made from other inputs.
            ElsewhereError: the same, and it is running.
        """
        wanted = recorded_digests({"inputs": _inputs_record(self.element, inputs)})
        while True:
            number = generation(self.folder)  # before the decision: of two processes that decide, one renames
            done = read_json(self.folder.done)
            records = [record for record in (done, read_json(self.folder.inputs)) if record is not None]
            if all(recorded_digests(record) == wanted for record in records):
                return done is not None
            if self.launch.slurm is None:
                raise RefusedError(
                    f"{self.element.name} was not started: {self.folder.root} was made from inputs that have changed "
                    "since; submit again, and the old folder is set aside"
                )
            check_free(self.folder, self._facts())
            if self.store.set_aside(self.element.folder, number):
                print(f"its inputs have changed; the old folder is now {self.element.folder}~{number}", flush=True)

    def _facts(self) -> dict[str, Any]:
        """What tells this attempt from those of other launches."""
        return {"batch": self.batch} | ({} if self.slurm_facts is None else {"slurm": dict(self.slurm_facts)})

    def _begin(self, inputs: Inputs) -> Claim:
        """Rank 0: make the folder, claim it, write down what is about to happen."""
        element, store = self.element, self.store
        described = {
            role: [
                {"type": one.type, "path": str(one.path), "digest": one.digest, "origin": one.origin} for one in ones
            ]
            for role, ones in inputs.items()
        }
        facts = {
            "name": element.name,
            "pipeline": element.pipeline,
            "ranks": self.launch.ranks,
            "code": code_digest(),
            "versions": versions(),
            "inputs": described,
            **self._facts(),
        }
        if store.strict and (changed := begun_under(self.folder)):
            raise RefusedError(strict_refusal(element.name, changed))
        with store.writing():
            folder = store.prepare_folder(element.folder, element.kind)
            folder.rendezvous.mkdir(exist_ok=True)
            mine = claim(folder, self.launch.nonce, facts, visibility_s=store.visibility_s)
            identity = {"kind": element.kind, "version": STAGES[element.kind].version, "stage_id": element.stage_id}
            write_json(folder.config, {**identity, "config": dict(element.config)})
            write_json(folder.inputs, {"inputs": _inputs_record(element, inputs)})
            folder.beat.touch()
            write_environment(folder, mine.token)
        self._warn_of_other_packages(mine)
        return mine

    def _warn_of_other_packages(self, mine: Claim) -> None:
        """A resume is bit-equal under equal packages; nobody looks for an upgrade when a curve has a step."""
        before = [attempt for attempt in attempts(mine.folder) if attempt["token"] < mine.token]
        if before and (changed := changed_versions(before[-1]["versions"], versions())):
            print(f"WARNING: {self.element.name} goes on under other packages than before: {changed}", flush=True)

    def _execute(self, config: Any, inputs: Inputs, run: Run, mine: Claim) -> Ending:
        started = time.monotonic()
        ended: list[Ending] = []
        with ExitStack() as around:
            if self.leads:
                around.enter_context(beating(mine, self.help_others))
                around.enter_context(adding_gpus(mine.folder, mine.token))
                pipeline = self.store.pipelines / self.element.pipeline
                # Only a stage that is done may wait for its last push: the seconds of all others are counted.
                around.enter_context(
                    pushing_stage(pipeline, self.element.name, lambda: not ended or ended[-1].code != DONE)
                )
            ended.append(self._bring_to_end(config, inputs, run, mine, started))
            run.close()
        return ended[-1]

    def _bring_to_end(self, config: Any, inputs: Inputs, run: Run, mine: Claim, started: float) -> Ending:
        try:
            with watching(run, 60 * self.policy.hang_min, lambda reason: self._give_up(mine, reason)):
                metrics = STAGES[self.element.kind].load()(config, inputs, run)
            if self.leads:
                record = _inputs_record(self.element, inputs)
                complete(self.element, record, metrics, run, mine, time.monotonic() - started)
        except Stopped as stopped:
            if self.leads:
                mine.finish("saved", TRY_AGAIN, stopped_by=self.stop.reason or "another rank")
                run.say(f"{self.element.name} stopped and saved: {stopped}")
            else:
                self._wait_for_outcome(mine)
            return self._stopped(str(stopped))
        except (Exception, SystemExit) as error:  # whatever a stage raises is recorded with its traceback
            return self._fail(mine, error)
        return Ending(code=DONE, cause="done")

    def _stopped(self, said: str) -> Ending:
        return Ending(
            code=TRY_AGAIN,
            cause="time_limit" if self.stop.reason == TIME_LIMIT else "signal",
            error=said,
            stopped_by=self.stop.reason,
            stopped_at_ms=self.stop.at_ms,
        )

    def _wait_for_outcome(self, mine: Claim) -> None:
        """Never leave before rank 0 has saved: a rank that exits in between makes Slurm kill the others."""
        deadline = time.monotonic() + SAVE_WAIT_S
        while time.monotonic() < deadline and mine.owns() and self._end_of_rank_0() is None:
            if "outcome" in (read_json(mine.path) or {}):
                return
            time.sleep(0.05)

    def _fail(self, mine: Claim, error: BaseException) -> Ending:
        ending = ending_of(error, mine.folder)
        text = redact("".join(traceback.format_exception(error)), os.environ)
        said = redact(ending.error, os.environ)
        print(said if is_known(error) else text, file=sys.stderr, flush=True)
        try:
            if not ending.lost_rank:  # that is told by the rank that is gone, or by its absence
                write_text(traceback_path(mine.folder, mine.token, self.launch.rank), text)
            if self.leads:
                mine.finish("failed", ending.code, said, **({"lost_rank": True} if ending.lost_rank else {}))
        except OSError as also:  # a full disk is often the very reason; the log then has the only record
            print(f"and the failure could not be recorded: {also}", file=sys.stderr, flush=True)
        return ending

    def _give_up(self, mine: Claim, reason: str) -> None:
        """From the watchdog's thread: the stage's own will not come back."""
        with suppress(OSError):
            if self.leads:
                mine.finish("failed", FAILED, reason)
        if self.records is not None:
            self.records.write(self.launch.rank, Ending(code=FAILED, cause="hung", error=reason))
        sys.stdout.flush()
        os._exit(FAILED)


def traceback_path(folder: StageFolder, token: int, rank: int) -> Path:
    return folder.logs / f"{token}-rank{rank}.traceback"


def _inputs_record(element: Element, inputs: Inputs) -> dict[str, list[dict[str, str]]]:
    """What the stage is made from; what only saved it work stands in the attempt's record."""
    roles = STAGES[element.kind].roles
    return {
        role: [
            {"id": wanted.id, "type": found.type, "digest": found.digest, "origin": found.origin}
            for wanted, found in zip(element.inputs[role], ones)
        ]
        for role, ones in inputs.items()
        if roles[role].decides
    }


def _inputs_of(attempt: Mapping[str, Any]) -> dict[str, tuple[Artifact, ...]]:
    return {
        role: tuple(Artifact(**{**one, "path": Path(one["path"])}) for one in ones)
        for role, ones in attempt["inputs"].items()
    }
