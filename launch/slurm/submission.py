"""What of a line is still to be done, given the store and Slurm's queue, and sending it as far as there is room.

Whenever a launcher dies on the way, the same line goes on from there: what was not released is given up and sent anew.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.batches import InFlight, in_flight, read_batch
from launch.plan import Plan
from launch.planning.selection import below
from launch.running.claims import attempt_path, is_live, server_now_s, tokens
from launch.running.elements import element
from launch.running.processes import is_alive
from launch.slurm.arrays import Place
from launch.slurm.begin_time import clear_begin_times
from launch.slurm.partitions import Site, check_requests
from launch.slurm.profiles import Profile
from launch.slurm.recovery import recover
from launch.slurm.scheduler import QueuedElement, Scheduler
from launch.slurm.sending import ScriptText, Sender
from launch.slurm.snapshot import snapshot
from launch.slurm.submit_lock import submitting
from launch.store import Finished, Store, generation
from vssl.artifacts import read_json
from vssl.config import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one look at the store and at the queue led to; names of stages."""

    finished: frozenset[str]
    waiting: frozenset[str]  # were in the queue, or ran, before
    sent: frozenset[str]
    left: tuple[str, ...]  # the queue had no room for them
    lost: Mapping[str, str]  # not sent -> the parent that is neither finished nor queued


class Submission:
    """The stages of one line on their way into the queue.

    Args:
        plan: the whole plan.
        selection: names of the stages to bring to completion.
        store: where results lie.
        profile: the site's.
        scheduler: Slurm.
        script_text: makes the text of an array's script.
        say: shows a line to the person.

    Raises:
        ConfigError: a name that the plan does not have, or an id that is pending.
    """

    def __init__(
        self,
        plan: Plan,
        selection: Collection[str],
        store: Store,
        profile: Profile,
        scheduler: Scheduler,
        script_text: ScriptText,
        say: Callable[[str], None],
    ) -> None:
        for name in selection:
            if name not in plan.by_name:
                raise ConfigError(
                    f"no stage {name!r}{nearest(name, plan.by_name)}; the plan has {', '.join(plan.by_name)}"
                )
        self.plan, self.store, self.profile, self.scheduler = plan, store, profile, scheduler
        self.names = tuple(stage.name for stage in plan if stage.name in set(selection))
        self.say = say
        self._script_text = script_text
        self._code: Path | None = None
        self.pipeline = store.pipeline(plan).name
        self._elements = {name: element(plan[name], plan, self.pipeline) for name in self.names}

    def finished(self, force: Collection[str] = ()) -> dict[str, Finished]:
        """What need not run; of the selected stages, none that is forced or stands on one."""
        known = self.store.reusable_stages(self.plan)
        if not force:
            return known
        found: dict[str, Finished] = {}
        for stage in self.plan:
            if stage.name in force:
                continue
            done = self.store.reusable(stage, found) if stage.name in self._elements else known.get(stage.name)
            if done is not None:
                found[stage.name] = done
        return found

    def check(self, names: Collection[str]) -> None:
        """Refuse what this site cannot run, before anything is written.

        Raises:
            ConfigError: what, why, and what to change.
            SchedulerSilentError: the controller does not answer.
        """
        check_requests(self.plan, names, self.profile, Site.read(self.scheduler))

    def round(self, names: Sequence[str], force: Collection[str] = (), *, patient: bool = False) -> Round:
        """Queue what is not finished, queued or running, as far as there is room.

        Args:
            names: of the stages to send, in the plan's order.
            force: names that are redone even if they are finished.
            patient: leave stages out whose parents are neither finished nor queued, instead of refusing the line.

        Raises:
            ConfigError: what cannot work, or what Slurm refuses; nothing of this round stays in the queue.
            SchedulerSilentError: the controller does not answer; the next round takes up what it has taken.
            LockHeldError: another launcher submits, and does not end.
        """
        with submitting(self.store, self.say) as lock:
            self.store.save_plan(self.plan, self.names)
            if self._code is None:  # a follower sends all its rounds with the code of the first
                self._code = snapshot(self.store)
            queue = self.scheduler.queue()
            total = self.scheduler.queued_total() - len(queue)
            queue = recover(self.store, self.scheduler, queue, lock.check)
            clear_begin_times(self.store, self.scheduler, queue)
            finished = self.finished(force)
            waiting, strays = self._in_flight(queue, finished)
            self._refuse_queued(force, waiting, strays.keys() - set(names))
            strays = {name: one for name, one in strays.items() if name in names}
            total += len(queue) - len(strays)
            wanted = [name for name in names if name not in finished and name not in waiting]
            lost = self._lost(wanted, finished.keys() | waiting.keys())
            if lost and not patient:
                name, parent = next(iter(lost.items()))
                raise ConfigError(
                    f"{name} needs {parent}, which is neither finished, nor queued, nor selected; add it, or select "
                    f"from={parent}"
                )
            wanted = [name for name in wanted if name not in lost]
            self._refuse_running(wanted)
            if strays:
                lock.check()
                self.scheduler.cancel([one.entry.job for one in strays.values()])
            self._set_aside(force)
            room = self._room(total)
            sender = Sender(
                plan=self.plan,
                elements=self._elements,
                store=self.store,
                profile=self.profile,
                scheduler=self.scheduler,
                code=self._code,
                script_text=self._script_text,
                say=self.say,
                may_write=lock.check,
            )
            places = {name: Place(*one.place) for name, one in waiting.items()}
            sent = sender.send(wanted[: max(0, room)], finished, places)
        left = tuple(name for name in wanted if name not in sent)
        return Round(
            finished=frozenset(finished), waiting=frozenset(waiting), sent=frozenset(sent), left=left, lost=lost
        )

    def _in_flight(
        self, queue: Sequence[QueuedElement], finished: Collection[str]
    ) -> tuple[dict[str, InFlight], dict[str, InFlight]]:
        """Stages that are queued or run, by name, and strays: they wait for a parent that is not even queued."""
        view = in_flight(self.store, queue)
        found: dict[str, InFlight] = {}
        strays: dict[str, InFlight] = {}
        for stage in self.plan:
            if stage.name in finished or stage.folder not in view:
                continue
            one = view[stage.folder]
            orphaned = any(parent not in finished and parent not in found for parent in stage.parents)
            if orphaned and one.entry.state == "PENDING":
                strays[stage.name] = one
            else:
                found[stage.name] = one
        return found, strays

    def _lost(self, wanted: Sequence[str], standing: Collection[str]) -> dict[str, str]:
        """Stage -> a parent that nobody brings to completion."""
        lost: dict[str, str] = {}
        sent = set(wanted)
        for name in wanted:
            for parent in self.plan[name].parents:
                if parent not in standing and (parent not in sent or parent in lost):
                    lost[name] = lost.get(parent, parent)
                    break
        return lost

    def _refuse_queued(self, force: Collection[str], waiting: Mapping[str, InFlight], strays: Collection[str]) -> None:
        """A stage is not redone while it, or one that reads it and is not sent anew, may be at work.

        Args:
            strays: queued stages that are not selected, and wait for a parent that is not queued.
        """
        for name in sorted(force):
            hanging = below(self.plan, frozenset([name]))
            for stage in (one.name for one in self.plan if one.name in hanging):
                entry = waiting[stage].entry if stage in waiting else None
                if stage in strays or (entry is not None and (stage == name or entry.state != "PENDING")):
                    place = (
                        "in Slurm's queue" if entry is None or entry.state == "PENDING" else f"running as {entry.job}"
                    )
                    raise ConfigError(f"{stage} is {place}; `vssl cancel` it before force={name}, or leave force= out")

    def _refuse_running(self, wanted: Sequence[str]) -> None:
        """Slurm's queue does not have them; another executor may, or a process that has outlived its job."""
        for name in wanted:
            folder = self.store.stage(self.plan[name].folder)
            numbers = tokens(folder)
            last = read_json(attempt_path(folder, numbers[-1])) if numbers else None
            if last is None or last.get("outcome") is not None:
                continue
            process = last["process"]
            batch = read_batch(self.store.batches / str(last.get("batch")))
            cluster = batch.slurm.get("cluster") if batch is not None else None
            if last.get("slurm") and cluster in (None, self.scheduler.config().get("ClusterName", "")):
                # Its job has left this queue, so it runs no more, unless this host can see that its process does.
                runs = is_alive(process)
            else:
                runs = is_live(last, folder, server_now_s(folder.attempts))
            if runs:
                raise ConfigError(
                    f"{name} is running in process {process['pid']} on {process['host']}, outside of Slurm's queue; "
                    "wait for its end, or stop it, and type the same line again"
                )

    def _set_aside(self, force: Collection[str]) -> None:
        for name in (name for name in self.names if name in force):
            folder = self.store.stage(self.plan[name].folder)
            number = generation(folder)
            if folder.root.exists() and self.store.set_aside(self.plan[name].folder, number):
                self.say(f"{name}: redone as asked; the old folder is now {self.plan[name].folder}~{number}")

    def _room(self, queued: int) -> int:
        """How many more elements the queue takes, as far as that is known."""
        account, qos = (str(self.profile.parameters.get(key, "")) for key in ("account", "qos"))
        limits = (self.profile.max_submit_jobs, self.scheduler.submit_limit(account, qos))
        return min((limit for limit in limits if limit is not None), default=queued + len(self.names)) - queued
