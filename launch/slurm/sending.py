"""Arrays on their way into the queue: intent, script, sbatch, id; and once all are there, one release.

They are held until the last one is recorded, so a launcher may die at any moment: nothing has started that nobody
knows of, and nothing starts before its parents are told to Slurm. Arrays that do not wait for one another are sent side
by side: most of the time goes into the start of each `sbatch` and into waiting for the disk.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.batches import create_batch, mark_void, record_job
from launch.plan import Plan
from launch.running.elements import Element
from launch.running.processes import identity
from launch.slurm.arrays import Array, Place, expression, levels, pack
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import Scheduler, SchedulerRefusedError, SchedulerSilentError
from launch.slurm.side_by_side import side_by_side
from launch.slurm.submit_lock import LockHeldError
from launch.store import Store
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
    _begun: set[Path] = field(default_factory=set, init=False)  # batches that Slurm has not answered for

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
                self._record_release()
                for line in self._lines:
                    self.say(line)
        return self._places

    def _send(self, names: Sequence[str], finished: Collection[str], in_flight: Mapping[str, Place]) -> None:
        largest = int(self.scheduler.config().get("MaxArraySize", "1001"))
        jobs: dict[str, str] = {}
        arrays = pack(self.plan, names, finished, {**in_flight, **self._places}, largest)
        for level in levels(arrays):
            failures = side_by_side(lambda array: self._submit(array, jobs), level, self.profile.sbatch_at_once)
            for array in level:
                if array.key in jobs:
                    self._note(array, jobs)
            refusals = [(array, error) for array, error in failures if isinstance(error, SchedulerRefusedError)]
            for _, error in failures:
                if not isinstance(error, SchedulerRefusedError):
                    raise error
            if refusals:
                self._make_do(refusals, finished, in_flight)
                return

    def _make_do(
        self,
        refusals: Sequence[tuple[Array, SchedulerRefusedError]],
        finished: Collection[str],
        in_flight: Mapping[str, Place],
    ) -> None:
        """Send no more than the queue takes, if that is why Slurm refuses."""
        array, error = next((one for one in refusals if not one[1].is_limit), refusals[0])
        members = list(array.stages.values())
        alone = len(members) == 1 and not self._held and self.scheduler.queued_total() == 0
        if not error.is_limit or alone:
            raise ConfigError(
                f"Slurm refused {array.element}: {error.text}; nothing of this line was queued. Change profile "
                f"{self.profile.name}, or stages.{self.plan[members[0]].template}.resources"
            )
        self._give_up("the queue was full")
        if len(members) > 1:  # nobody knows how much room there is, so it is found out by halves
            self._send(members[: len(members) // 2], finished, in_flight)

    def _submit(self, array: Array, jobs: dict[str, str]) -> None:
        """Write an array's intent and script, submit it held, and write down its id, here and in `jobs`."""
        cluster = self.scheduler.config().get("ClusterName", "")
        dependency = expression(array.dependency, jobs)
        facts = {**array_facts(array, dependency, self.code, self.profile), "cluster": cluster}
        records = {index: self.elements[name] for index, name in array.stages.items()}
        folder = create_batch(self.store, records, facts)
        self._begun.add(folder)
        text = self.script_text(
            folder,
            array.resources,
            self.profile,
            indices=array.stages.keys(),
            dependency=dependency,
            snapshot=self.code,
        )
        with self.store.writing():
            write_text(folder / "script.sh", text, durable=False)  # sbatch reads it now, and nobody needs it later
        self.may_write()
        job = self.scheduler.submit(folder / "script.sh", folder)
        self._held[job] = folder
        self._begun.discard(folder)
        with self.store.writing():
            record_job(folder, job)
        jobs[array.key] = job

    def _note(self, array: Array, jobs: Mapping[str, str]) -> None:
        """Keep where the stages of an array went, and what will be said of it."""
        job, size = jobs[array.key], len(array.stages)
        self._places |= {name: Place(job, index) for index, name in array.stages.items()}
        after = ", ".join(dict.fromkeys(jobs.get(one.array, one.array) for one in array.dependency))
        of_size = f" of {size} elements" if size > 1 else ""
        self._lines.append(f"{array.element}: job {job}{of_size}" + (f", after {after}" if after else ""))

    def _record_release(self) -> None:
        def record(held: tuple[str, Path]) -> None:
            with self.store.writing():
                record_job(held[1], held[0], released=True)

        for _, error in side_by_side(record, list(self._held.items()), self.profile.sbatch_at_once):
            raise error

    def _give_up(self, why: str) -> None:
        """Of batches that Slurm has not taken."""
        for folder in self._begun:
            mark_void(folder, why)
        self._begun.clear()

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
