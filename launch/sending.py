"""Arrays on their way into the queue: intent, script, sbatch, id; and once all are there, one release.

They are held until the last one is recorded, so a launcher may die at any moment: nothing has started that nobody
knows of, and nothing starts before its parents are told to Slurm.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.arrays import Array, Place, expression, pack
from launch.batches import create_batch, mark_void, record_job
from launch.elements import Element
from launch.plan import Plan
from launch.processes import identity
from launch.profiles import Profile
from launch.scheduler import Scheduler, SchedulerRefusedError, SchedulerSilentError
from launch.store import Store
from launch.submit_lock import LockHeldError
from vssl.artifacts import write_text
from vssl.config import ConfigError, to_mapping

ScriptText = Callable[..., str]


def array_facts(array: Array, dependency: str, code: Path, profile: Profile) -> dict[str, Any]:
    """What the record of a batch holds of its submission."""
    return {
        "ranks": array.resources.ranks,
        "resources": to_mapping(array.resources),
        "dependency": dependency,
        "snapshot": str(code),
        "python": profile.python,
        "policy": to_mapping(profile.policy),
        "launcher": identity(),
    }


@dataclass(kw_only=True)
class Sender:
    """Puts stages into the queue.

    Args:
        plan: the whole plan.
        elements: stage -> its record.
        store: where the batches lie.
        profile: the site's.
        scheduler: Slurm.
        code: the snapshot that jobs run.
        script_text: makes the text of an array's script.
        say: shows a line to the person.
        may_write: called before each change of the queue; raises if this launcher may not.
    """

    plan: Plan
    elements: Mapping[str, Element]
    store: Store
    profile: Profile
    scheduler: Scheduler
    code: Path
    script_text: ScriptText
    say: Callable[[str], None]
    may_write: Callable[[], None]
    _held: dict[str, Path] = field(default_factory=dict, init=False)  # array job -> its batch
    _places: dict[str, Place] = field(default_factory=dict, init=False)  # stage -> where it was sent
    _lines: list[str] = field(default_factory=list, init=False)  # about what was sent
    _begun: Path | None = field(default=None, init=False)  # a batch that Slurm has not answered for

    def send(
        self, names: Sequence[str], finished: Collection[str], in_flight: Mapping[str, Place]
    ) -> Mapping[str, Place]:
        """Submit stages and release them; fewer than asked for where Slurm says that the queue is full.

        Args:
            names: in the plan's order; each parent is among them, finished or in flight.
            finished: stages that nobody waits for.
            in_flight: stages that are in the queue already.

        Returns:
            Where each stage that was sent is queued.

        Raises:
            ConfigError: Slurm refuses, or the store cannot be written; nothing stays in the queue.
            SchedulerSilentError: Slurm does not answer; what it took stays held until the next launcher.
        """
        with self._all_or_nothing():
            self._send(names, finished, in_flight)
            if self._held:
                self.may_write()
                self.scheduler.release(list(self._held))
                with self.store.writing():
                    for job, folder in self._held.items():
                        record_job(folder, job, released=True)
                for line in self._lines:
                    self.say(line)
        return self._places

    def _send(self, names: Sequence[str], finished: Collection[str], in_flight: Mapping[str, Place]) -> None:
        largest = int(self.scheduler.config().get("MaxArraySize", "1001"))
        jobs: dict[str, str] = {}
        for array in pack(self.plan, names, finished, {**in_flight, **self._places}, largest):
            members = list(array.stages.values())
            try:
                job = jobs[array.key] = self._submit(array, expression(array.dependency, jobs))
            except SchedulerRefusedError as error:
                alone = len(members) == 1 and not self._held and self.scheduler.queued_total() == 0
                if not error.is_limit or alone:
                    raise ConfigError(
                        f"Slurm refused {array.element}: {error.text}; nothing of this line was queued. Change profile "
                        f"{self.profile.name}, or stages.{self.plan[members[0]].template}.resources"
                    ) from None
                self._give_up("the queue was full")
                if len(members) > 1:  # nobody knows how much room there is, so it is found out by halves
                    self._send(members[: len(members) // 2], finished, in_flight)
                return
            self._places |= {name: Place(job, index) for index, name in array.stages.items()}
            size = f" of {len(members)} elements" if len(members) > 1 else ""
            after = ", ".join(dict.fromkeys(jobs.get(one.array, one.array) for one in array.dependency))
            self._lines.append(f"{array.element}: job {job}{size}" + (f", after {after}" if after else ""))

    def _submit(self, array: Array, dependency: str) -> str:
        """Write an array's intent and script, submit it held, and write down its id."""
        cluster = self.scheduler.config().get("ClusterName", "")
        facts = {**array_facts(array, dependency, self.code, self.profile), "cluster": cluster}
        records = {index: self.elements[name] for index, name in array.stages.items()}
        folder = self._begun = create_batch(self.store, records, facts)
        text = self.script_text(
            folder,
            array.resources,
            self.profile,
            indices=array.stages.keys(),
            dependency=dependency,
            snapshot=self.code,
        )
        with self.store.writing():
            write_text(folder / "script.sh", text)
        self.may_write()
        job = self.scheduler.submit(folder / "script.sh", folder)
        self._held[job] = folder
        self._begun = None
        with self.store.writing():
            record_job(folder, job)
        return job

    def _give_up(self, why: str) -> None:
        if self._begun is not None:
            mark_void(self._begun, why)
            self._begun = None

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """What a block puts into the queue goes out again if the block fails, unless Slurm is just silent."""
        try:
            yield
        except (SchedulerSilentError, LockHeldError):
            raise
        except BaseException:
            with suppress(Exception):
                self.may_write()
                if self._held:
                    self.scheduler.cancel(list(self._held))
                for folder in self._held.values():
                    mark_void(folder, "the submission failed")
                self._give_up("the submission failed")
            raise
