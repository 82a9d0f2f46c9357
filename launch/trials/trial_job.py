"""The job of `vssl doctor`: a probe that goes through the real submission, is told to stop, and comes back.

It shows what no configuration file says: whether signals reach the ranks, whether the script's last lines run, whether
a job may requeue itself, what a node has, and how late files come into sight.
"""

import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from launch.batches import open_batches
from launch.plan import Plan, PlannedStage, Resources
from launch.planning.identity import identity
from launch.planning.resource_classes import ResourceClasses
from launch.planning.templates import files
from launch.provenance import versions
from launch.running.batch_folder import BatchFolder
from launch.running.claims import newest
from launch.slurm.begin_time import clear_begin_times
from launch.slurm.pending import meaning
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import QueuedElement, Scheduler, SchedulerRefusedError, SchedulerSilentError
from launch.slurm.snapshot import snapshot
from launch.store import Store
from launch.trials.node_check import APPEARS_S, asked_from_here, delay_s, found_on_node, seen_on_node
from launch.trials.site_check import Finding
from vssl.artifacts import read_json, write_json
from vssl.config import ConfigError

T = TypeVar("T")
SMALLEST = "one_core"  # resource class of the trial
TIMEOUT_MIN = 15
COMES_BACK_S = 200.0  # a requeued job, whose begin time may be two minutes away
_LOOK_EVERY_S = 1.0
_LATE_S = 60.0  # a delay beyond which the default of visibility_s leaves too little


class TrialJob:
    """One trial; its files are removed unless something was wrong.

    Args:
        root: the store, below which the trial makes one of its own.
        profile: the site's.
        scheduler: Slurm.
        wait_s: how long the queue may let it wait.
        say: told what is being waited for.
    """

    def __init__(
        self, root: Path, profile: Profile, scheduler: Scheduler, wait_s: float, say: Callable[[str], None]
    ) -> None:
        self.store = Store(Store(root).trials / uuid.uuid4().hex[:8])
        self.profile = profile
        self.scheduler = scheduler
        self.wait_s = wait_s
        self.say = say
        self.stage = _probe(ResourceClasses(files("resources"), profile.resources))
        self.batch = self.store.batches
        self.job = ""

    def run(self) -> Iterator[Finding]:
        """Submit, watch, tell; yields findings as they come."""
        wrong = False
        try:
            for one in self._trial():
                wrong = wrong or one.mark == "wrong"
                yield one
        finally:
            self._clear_away(keep=wrong)

    def _trial(self) -> Iterator[Finding]:
        problem = self._submit()
        if problem:
            yield Finding(mark="wrong", text=f"Slurm does not take a job: {problem}", todo="mend the profile")
            return
        self.say(f"job {self.job} is queued; waiting for it to start")
        entry = self._await_state("RUNNING", 0, self.wait_s)
        if entry is None or entry.state != "RUNNING":
            reason = "it left the queue" if entry is None else meaning(entry.reason).text
            text = f"the job did not start within {self.wait_s:.0f} s: {reason}"
            yield Finding(mark="wrong", text=text, todo="try again later, or with --wait SECONDS")
            return
        yield from self._look_at_node()
        for restart, name in enumerate(("USR2", "TERM")):
            if not (yield from self._stop_and_return(name, restart)):
                return

    def _submit(self) -> str:
        """Queue the probe; what stood in the way, or nothing."""
        from launch.executors import slurm

        with self.store.writing():
            self.store.root.mkdir(parents=True)
        check = ["-P", "-m", "launch.trials.node_check", str(self.store.root)]
        python = self.profile.python or shlex.quote(sys.executable)
        first = '[ "${SLURM_RESTART_COUNT:-0}" != 0 ] ||'
        code = shlex.quote(str(snapshot(self.store)))
        setup = (
            *self.profile.setup,
            "unset MLFLOW_TRACKING_URI  # a trial is no experiment",
            f"{first} PYTHONPATH={code} {python} {shlex.join(check)}",
        )
        plan = Plan(sweep="doctor", scale="smoke", stages=(self.stage,), datasets={})
        profile = replace(self.profile, setup=setup)
        try:
            with redirect_stdout(sys.stderr):
                slurm.execute(plan, [self.stage.name], self.store, profile=profile, scheduler=self.scheduler)
        except (ConfigError, SchedulerRefusedError) as error:
            return str(error)
        batches = [batch for batch in open_batches(self.store) if batch.job_id is not None]
        if not batches:
            return "it did not answer"
        self.batch = batches[0].folder
        self.job = f"{batches[0].job_id}_{next(iter(batches[0].elements))}"
        return ""

    def _look_at_node(self) -> Iterator[Finding]:
        folder = self.store.root
        back_s = delay_s(found_on_node(folder))
        facts: Mapping[str, Any] | None = read_json(found_on_node(folder))
        if back_s is None or facts is None:
            log = BatchFolder(self.batch).script_log(self._index)
            said = f"its log is {log}" if log.exists() else "nor is its log"
            text = f"nothing that the node writes is seen here within {APPEARS_S:.0f} s; {said}"
            todo = "the store must lie on a file system that all nodes share, and python: must exist there"
            yield Finding(mark="wrong", text=text, todo=todo)
            return
        write_json(asked_from_here(folder), {})
        yield from _of_node(facts)
        seen = self._await(lambda: read_json(seen_on_node(folder)), APPEARS_S + _LATE_S)
        there_s = None if seen is None else seen["delay_s"]
        if there_s is None:
            text = "nothing that is written here is seen on the node"
            yield Finding(mark="wrong", text=text, todo="the store must lie on a file system that all nodes share")
            return
        text = f"a file of the node is seen here after {back_s:.1f} s, and one of ours there after {there_s:.1f} s"
        longest_s = max(back_s, there_s)
        late = longest_s > _LATE_S
        todo = f"set vssl.visibility_s: {2 * longest_s:.0f}" if late else ""
        yield Finding(mark="note" if late else "ok", text=text, todo=todo)

    def _stop_and_return(self, name: str, restart: int) -> Generator[Finding, None, bool]:
        """Signal the ranks and see the job stop, save, settle, requeue itself and start again; whether it has."""
        folder = self.store.stage(self.stage.folder)
        self.say(f"waiting for start {restart + 1} of the stage, to send it {name}")
        begun = self._await(lambda: _started(newest(folder), restart), COMES_BACK_S)
        if begun is None:
            verdict = read_json(BatchFolder(self.batch).verdict(self._index, restart)) or {}
            why = verdict.get("error") or "it left no word"
            todo = f"its logs are in {self.batch / 'logs'}"
            yield Finding(mark="wrong", text=f"the stage did not begin on the node: {why}", todo=todo)
            return False
        self.scheduler.signal(self.job, name)
        verdict = self._await(lambda: read_json(BatchFolder(self.batch).verdict(self._index, restart)), COMES_BACK_S)
        saved = (newest(folder) or {}).get("outcome") == "saved"
        if verdict is None:
            text = f"{name} was sent, and neither the stage nor the lines after srun have said anything"
            yield Finding(mark="wrong", text=text, todo="ask the administrators whether signals reach a job's steps")
            return False
        if saved:
            yield Finding(mark="ok", text=f"{name} reaches the ranks through srun: the stage saved and stopped")
        else:
            text = f"{name} ended the stage before it had saved ({verdict['cause']}: {verdict['error']})"
            yield Finding(mark="wrong", text=text, todo="save often: stages.all.runtime.save_every_min=5")
        if verdict["decision"] != "requeue":
            text = f"the job did not come back after {name}: {verdict['error'] or verdict['cause']}"
            todo = "ask the administrators to allow `scontrol requeue` on nodes; until then the same line goes on"
            yield Finding(mark="wrong", text=text, todo=todo)
            return False
        began_s = time.monotonic()
        entry = self._await_state("RUNNING", restart + 1, COMES_BACK_S)
        if entry is None or entry.state != "RUNNING":
            where = "it left the queue" if entry is None else meaning(entry.reason).text
            yield Finding(mark="wrong", text=f"the requeued job did not start again: {where}", todo="try again later")
            return False
        took_s = time.monotonic() - began_s
        text = f"a job requeues itself from its node after {name}, and runs again {took_s:.0f} s later"
        yield Finding(mark="ok", text=text)
        return True

    @property
    def _index(self) -> int:
        return int(self.job.rpartition("_")[2])

    def _entry(self) -> QueuedElement | None:
        queue = self.scheduler.queue()
        clear_begin_times(self.store, self.scheduler, queue)
        return next((entry for entry in queue if entry.job == self.job), None)

    def _await_state(self, state: str, restarts: int, wait_s: float) -> QueuedElement | None:
        """The job's place in the queue once it is in a state, or at the end of the wait."""
        deadline = time.monotonic() + wait_s
        entry = self._entry()
        while entry is not None and (entry.state != state or entry.restarts < restarts) and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
            entry = self._entry()
        return entry

    def _await(self, ask: Callable[[], T | None], wait_s: float) -> T | None:
        deadline = time.monotonic() + wait_s
        while (found := ask()) is None and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S / 4)
        return found

    def _clear_away(self, *, keep: bool) -> None:
        """Take the job out of the queue, and its files away unless they explain something."""
        if self.job:
            try:
                self.scheduler.cancel([self.job.partition("_")[0]])
                deadline = time.monotonic() + COMES_BACK_S
                while self._entry() is not None and time.monotonic() < deadline:
                    time.sleep(_LOOK_EVERY_S)
            except SchedulerSilentError:
                self.say(f"job {self.job} could not be cancelled; it ends by itself within {TIMEOUT_MIN} min")
                keep = True
        if keep:
            self.say(f"what it left is in {self.store.root}")
        else:
            for place in (self.store.code, *self.store.code.rglob("*")):
                if place.is_dir():
                    place.chmod(0o700)
            shutil.rmtree(self.store.root, ignore_errors=True)


def _probe(classes: ResourceClasses) -> PlannedStage:
    """A stage that lasts until it is told to stop."""
    config = {"steps": 60 * TIMEOUT_MIN, "step_s": 1.0}
    return PlannedStage(
        name="doctor",
        template="doctor",
        element="doctor",
        lane=None,
        axes={},
        kind="probe",
        config=config,
        inputs={},
        resources=_smallest(classes),
        stage_id=identity("probe", 1, config, {})[:16],
    )


def _smallest(classes: ResourceClasses) -> Resources:
    return replace(classes.get(SMALLEST), timeout_min=TIMEOUT_MIN)


def _started(attempt: Mapping[str, Any] | None, restart: int) -> bool | None:
    return True if attempt is not None and (attempt.get("slurm") or {}).get("restart") == restart else None


def _of_node(facts: Mapping[str, Any]) -> Iterator[Finding]:
    here = versions()
    other = {name: version for name, version in facts["versions"].items() if here.get(name) != version}
    other |= {name: "missing" for name in here if name not in facts["versions"]}
    text = f"{facts['python']} runs on {facts['node']}"
    if other:
        differing = ", ".join(f"{name} {version} (here {here.get(name, 'missing')})" for name, version in other.items())
        text = f"{text}, with other packages: {differing}"
        yield Finding(mark="note", text=text, todo="say in python: which one jobs shall run")
    else:
        yield Finding(mark="ok", text=f"{text}, with the same packages as here")
    if facts["unresolved"]:
        text = f"the node does not know its own name: {', '.join(facts['unresolved'])}"
        todo = "ask the administrators; ranks on several nodes find each other by these names"
        yield Finding(mark="note", text=text, todo=todo)
    else:
        yield Finding(mark="ok", text="the node's name resolves")
