"""A queue over this machine's GPUs or cores, with the graph's semantics.

A stage starts when its parents are done and the machine has room; a failure cancels what hangs below it and nothing
else. The truth is in the store: a second queue on the same plan waits for what the first one runs, and after Ctrl-C,
a crash or a power cut the same line goes on where the stages last saved.
"""

import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from launch.exit_codes import DONE, FAILED, TRY_AGAIN
from launch.plan import Plan
from launch.provenance import code_digest
from launch.report import print_report
from launch.running.children import Children, last_line
from launch.running.claims import is_live, newest
from launch.running.display import View
from launch.running.elements import create_batch, element
from launch.running.machine import Machine
from launch.running.pace import duration
from launch.running.pushing import Pusher
from launch.slurm.standing import rank_error
from launch.status import code_mark
from launch.store import Finished, Store, generation, input_digests, recorded_digests
from vssl.artifacts import read_json
from vssl.config import ConfigError, nearest

State = Literal["waiting", "queued", "running", "elsewhere", "done", "reused", "failed", "cancelled", "saved"]
TICK_S = 0.05
ELSEWHERE_EVERY_S = 0.5
STOP_WAIT_S = 600.0


def execute(
    plan: Plan,
    selection: Sequence[str],
    store: Store,
    *,
    force: Collection[str] = (),
    tracking_uri: str | None = None,
    machine: Machine | None = None,
    track: bool = True,
) -> int:
    """Run the selected stages of a plan on this machine, then print the report.

    Args:
        plan: the whole plan; no id in it may be pending.
        selection: names of the stages to bring to completion; their other parents must be finished.
        store: where results lie. One machine sees its own writes, so `visibility_s=0` is right.
        force: names of selected stages that are redone even if they are finished.
        tracking_uri: where metrics are pushed; None: the tracker's default.
        machine: what to run on; None: this machine.
        track: whether to push metrics to the tracker.

    Returns:
        0 all done, 1 a stage failed, 75 stopped by a signal with everything saved.

    Raises:
        ConfigError: a name that the plan does not have, a parent that is neither finished nor selected, or a store
            that cannot be written.
    """
    finished = _check(plan, selection, store, force)
    pipeline = store.save_plan(plan, selection)
    pusher = Pusher(pipeline, tracking_uri, store.read) if track else None
    with View(len(selection)) as view:
        queue = Queue(plan, selection, store, pipeline, view, finished, force, machine)
        code = queue.run(pusher)
    if pusher is not None:
        pusher.finish()
    print_report(plan, store)
    return code


def _check(plan: Plan, selection: Sequence[str], store: Store, force: Collection[str]) -> dict[str, Finished]:
    """Refuse what cannot work before anything is written; returns what is finished of the stages not selected."""
    stages = plan.by_name
    for name in (*selection, *force):
        if name not in stages:
            raise ConfigError(f"no stage {name!r}{nearest(name, stages)}; the plan has {', '.join(stages)}")
    for name in force:
        last = newest(store.stage(stages[name].folder))
        if last is not None and is_live(last, store.stage(stages[name].folder), time.time()):
            raise ConfigError(f"{name} is running in process {last['process']['pid']}; stop it before force={name}")
    reusable = store.reusable_stages(plan)
    outside = {name: found for name, found in reusable.items() if name not in selection}
    for name in selection:
        for parent in stages[name].parents:
            if parent not in outside and parent not in selection:
                raise ConfigError(
                    f"{name} needs {parent}, which is neither finished nor selected; add it, or select from={parent}"
                )
        element(stages[name], plan, "")  # refuses an id that is still pending
    return outside


class Queue:
    """One execution of a selection: the state of each stage, and the loop that moves them on."""

    def __init__(
        self,
        plan: Plan,
        selection: Sequence[str],
        store: Store,
        pipeline: Path,
        view: View,
        finished: dict[str, Finished],
        force: Collection[str] = (),
        machine: Machine | None = None,
    ) -> None:
        self.plan = plan
        self.stages = {stage.name: stage for stage in plan if stage.name in selection}
        self.states: dict[str, State] = dict.fromkeys(self.stages, "waiting")
        self.store = store
        self.pipeline = pipeline
        self.view = view
        self.finished = finished
        self.to_force = {name for name in force if name in self.stages}
        self._machine = machine
        self._batch: Path | None = None
        self._children: dict[str, Children] = {}
        self._stops = 0
        self._told_to_stop: set[str] = set()
        self._looked_elsewhere_s = 0.0

    def run(self, pusher: Pusher | None = None) -> int:
        """Bring every stage to an end; returns the exit code."""
        with self._listening():
            try:
                self._loop(pusher)
            except BaseException:
                self._abandon()
                raise
        if self._stops and self._in_states("saved", "waiting", "queued", "elsewhere"):
            self.view.say("stopped; the same line goes on from here (without force=, where it was given)")
            return TRY_AGAIN
        if self._in_states("failed"):
            return FAILED
        return TRY_AGAIN if self._in_states("saved", "waiting") else DONE

    def _loop(self, pusher: Pusher | None) -> None:
        while True:
            self._advance()
            for name in [name for name in self._children if self._poll(name)]:
                del self._children[name]
            self._pass_on_stop()
            if self._stops and not self._children:
                return
            if not self._children and not self._in_states("elsewhere", "queued") and not self._ready():
                return
            if pusher is not None and self._children:
                pusher.start()
            self.view.refresh({name: children.folder for name, children in self._children.items()})
            time.sleep(TICK_S)

    def _abandon(self) -> None:
        """The queue itself fails: no stage goes on that nobody watches."""
        for children in self._children.values():
            children.terminate()
        deadline = time.monotonic() + STOP_WAIT_S
        running = list(self._children.values())
        while running and self._stops < 2 and time.monotonic() < deadline:
            running = [children for children in running if children.poll() is None]
            time.sleep(TICK_S)
        for children in running:
            children.kill()

    def _in_states(self, *states: State) -> list[str]:
        return [name for name, state in self.states.items() if state in states]

    def _ready(self) -> list[str]:
        return [
            name
            for name in self._in_states("waiting")
            if all(parent in self.finished for parent in self.stages[name].parents)
        ]

    def _advance(self) -> None:
        """Look at every stage that could move on, and start what there is room for."""
        if self._stops:
            return
        while ready := self._ready():  # a reused stage makes its children ready at once
            for name in ready:
                self._consider(name)
        if time.monotonic() - self._looked_elsewhere_s > ELSEWHERE_EVERY_S:
            self._looked_elsewhere_s = time.monotonic()
            for name in self._in_states("elsewhere"):
                self._consider(name)
        for name in self._in_states("queued"):
            self._start(name)

    def _consider(self, name: str) -> None:
        """Decide from the store: reuse, wait for another queue, or queue for running here."""
        stage, folder = self.stages[name], self.store.stage(self.stages[name].folder)
        if name not in self.to_force:
            found = self.store.reusable(stage, self.finished)
            if found is not None:
                self.finished[name] = found
                mark = f"; {said}" if (said := code_mark(found.record)) else ""
                self._set(name, "reused", f"finished before ({duration(found.record['wall_s'])}), reused{mark}")
                return
        last = newest(folder)
        if last is not None and is_live(last, folder, time.time()):
            if self.states[name] != "elsewhere":
                self._set(name, "elsewhere", f"runs in process {last['process']['pid']} of another queue; waiting")
        elif self.states[name] == "elsewhere" and last is not None and last.get("outcome") == "failed":
            self._fail(name, f"failed in another queue: {last['error']}")
        else:
            self.states[name] = "queued"

    def _start(self, name: str) -> None:
        if self._machine is None:
            self._machine = Machine.here()
            self.view.say(f"this machine: {self._machine}")
        share = self._machine.take(self.stages[name].resources)
        if share is None:
            return
        self._consider(name)  # it may have waited for long
        if self.states[name] != "queued" or not self._clear_folder(name):
            self._machine.give_back(share)
            return
        if self._batch is None:
            elements = [element(stage, self.plan, self.pipeline.name) for stage in self.stages.values()]
            self._batch = create_batch(self.store, "local", elements)
        index = list(self.stages).index(name)
        folder = self.store.stage(self.stages[name].folder)
        with self.store.writing():
            self._children[name] = Children(folder, self._batch, index, share)
        ranks = f" on {share.ranks} ranks" if share.ranks > 1 else ""
        last = newest(folder)
        resumed = "started" if last is None else "goes on"
        marked = ", under other code than it began with" if last is not None and last["code"] != code_digest() else ""
        self._set(name, "running", f"{resumed}{ranks}{marked}; log {self._children[name].log}")

    def _clear_folder(self, name: str) -> bool:
        """Set aside what was made from other inputs or is forced; False where another process was faster."""
        stage = self.stages[name]
        folder = self.store.stage(stage.folder)
        number = generation(folder)
        wanted = input_digests(stage, self.finished)
        records = [record for record in (read_json(folder.done), read_json(folder.inputs)) if record is not None]
        outdated = any(recorded_digests(record) != wanted for record in records)
        forced = name in self.to_force and folder.root.exists()
        if (outdated or forced) and not self.store.set_aside(stage.folder, number):
            return False
        if outdated or forced:
            why = "redone as asked" if forced else "its inputs have changed"
            self.view.say(f"{name}: {why}; the old folder is now {stage.folder}~{number}")
        self.to_force.discard(name)
        return True

    def _poll(self, name: str) -> bool:
        """Whether a running stage has ended; its new state is then set."""
        children = self._children[name]
        codes = children.poll()
        if codes is None:
            return False
        assert self._machine is not None
        self._machine.give_back(children.share)
        stage = self.stages[name]
        last = newest(children.folder)
        attempt = last if last is not None and last["nonce"] == children.nonce else None
        found = self.store.reusable(stage, self.finished)
        if found is not None:
            self.finished[name] = found
            self._set(name, "done", f"done in {duration(found.record['wall_s'])}")
        elif attempt is not None and attempt.get("outcome") == "saved" and set(codes) <= {DONE, TRY_AGAIN}:
            self._set(name, "saved", "stopped and saved")
        elif self._stops and not (attempt is not None and attempt.get("outcome") == "failed"):
            self._set(name, "saved", "stopped; what it saved last is kept")
        elif attempt is None and TRY_AGAIN in codes:
            self._set(name, "elsewhere", "was claimed by another queue; waiting")
        else:
            self._fail(name, _reason(codes, attempt, children))
        return True

    def _fail(self, name: str, reason: str) -> None:
        self._set(name, "failed", f"failed: {reason}")
        below = {name}
        for stage in self.stages.values():
            if stage.name not in below and below & set(stage.parents):
                below.add(stage.name)
                self._set(stage.name, "cancelled", f"cancelled, because {name} failed")

    def _set(self, name: str, state: State, text: str) -> None:
        self.states[name] = state
        self.view.say(f"{name}: {text}", ended=state in ("done", "reused", "failed", "cancelled"))

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Pass Ctrl-C and SIGTERM on to the running stages: the first one saves, the second one kills."""

        def on_signal(number: int, frame: FrameType | None) -> None:
            self._stops += 1
            if self._stops == 1:
                signal.alarm(int(STOP_WAIT_S))

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
        before = {number: signal.signal(number, on_signal) for number in numbers}
        try:
            yield
        finally:
            signal.alarm(0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on_stop(self) -> None:
        """Done by the loop, so that no stage slips through that is just being started."""
        for name, children in self._children.items():
            if self._stops > 1:
                children.kill()
            elif self._stops and name not in self._told_to_stop:
                self._told_to_stop.add(name)
                children.terminate()


def _reason(codes: list[int], attempt: Mapping[str, Any] | None, children: Children) -> str:
    """Why a stage failed: what its attempt recorded, what another rank left, or how its processes ended."""
    if attempt is not None and attempt.get("error") and not attempt.get("lost_rank"):
        return str(attempt["error"])
    if attempt is not None and (said := rank_error(children.folder, attempt["token"])):
        return said
    for rank, code in enumerate(codes):
        if code < 0:
            said = last_line(children.log)
            return f"rank {rank} was killed by {signal.Signals(-code).name} (memory?); last line: {said or 'none'}"
    return last_line(children.log) or f"exit code {max(codes)} without a word; see {children.log}"
