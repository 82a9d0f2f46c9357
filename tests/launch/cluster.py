"""A cluster in virtual time: logins where lines are typed, the wire to the fake Slurm, and the jobs that it starts.

The launcher, the job and the end of its script are the real code, each in a process of the world.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

import launch.job
import launch.settle
from launch.executors.slurm import execute
from launch.plan import Plan
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import Scheduler, SchedulerSilentError
from launch.store import Store
from tests.launch.fake_slurm import FakeSlurm, Job
from tests.launch.shapes import STEP_S
from tests.launch.turns import Killed, Process, World

IDLE_S = 5.0
LINE_TURNS = 110  # a line that sends everything takes about as many


@dataclass(eq=False)
class Start:
    """One start of a job: its script and the only rank of its stage."""

    job: Job
    restart: int
    script: Process | None = None
    rank: Process | None = None

    @property
    def is_current(self) -> bool:
        return self.job.state == "RUNNING" and self.job.restarts == self.restart

    @property
    def is_at_work(self) -> bool:
        """Whether nothing keeps its rank from writing to the stage."""
        return self.is_current and self.rank is not None and not self.rank.is_doomed

    def signal(self, number: int) -> None:
        if self.rank is not None:  # the script's trap swallows it
            self.rank.signals.append(number)

    def kill(self) -> None:
        for process in (self.rank, self.script):
            if process is not None:
                process.kill()


class Wire:
    """The way to the controller: others go on before and after a command, and answers can be lost."""

    def __init__(self, world: World, slurm: FakeSlurm) -> None:
        self.world, self.slurm = world, slurm
        self.silent_until_s = 0.0
        self.lost_answers = 0
        self.on_command: Callable[[str], None] = lambda name: None
        self.on_death: Callable[[str, Callable[[], Any]], None] = lambda name, command: None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.slurm, name)
        if not callable(found) or name == "queued_total":
            return found

        def command(*arguments: Any) -> Any:
            try:
                self.world.hand_over()
            except Killed:  # the command may outlive whoever gave it
                self.on_death(name, lambda: found(*arguments))
                raise
            self.on_command(name)
            if self.world.now_s < self.silent_until_s:
                raise SchedulerSilentError(f"{name}: Unable to contact slurm controller")
            answer = found(*arguments)
            self.world.hand_over()
            if self.lost_answers:
                self.lost_answers -= 1
                raise SchedulerSilentError(f"{name}: Socket timed out")
            return answer

        return command


class Cluster:
    """Hosts, the fake Slurm of a site that a seed chooses, and the starts of its jobs."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.world = World(rng)
        self.slurm = FakeSlurm(lambda: self.world.now_s, self._start, self._kill)
        self.slurm.min_job_age_s = rng.choice([10.0, 300.0])
        self.slurm.has_accounting = rng.random() < 0.5
        self.slurm.max_submit = rng.choice([None, None, 4])
        del self.slurm.hosts[rng.randint(2, 4) :]
        self.wire = Wire(self.world, self.slurm)
        self.on_start: Callable[[Job], None] = lambda job: None
        self.starts: dict[str, Start] = {}  # job -> its newest start
        self.lag_s = 0.0  # from the end of a job for Slurm to that of its processes
        self.troubled: dict[Process, str] = {}  # rank -> what becomes of its next step
        self._started_by: dict[Process, Start] = {}
        self._later: list[tuple[float, Callable[[], None]]] = []

    def start_of(self, process: Process | None) -> Start | None:
        """The start of a job that a process belongs to."""
        return None if process is None else self._started_by.get(process.main)

    def later(self, seconds: float, happen: Callable[[], None]) -> None:
        self._later.append((self.world.now_s + seconds, happen))

    def turn(self) -> None:
        """What is due happens, somebody goes on, and Slurm looks at its jobs now and then."""
        before_s = self.world.now_s
        due = [one for one in self._later if one[0] <= before_s]
        self._later = [one for one in self._later if one not in due]
        for _, happen in due:
            happen()
        self.world.turn(min([before_s + IDLE_S, *(moment_s for moment_s, _ in self._later)]))
        if self.world.now_s - before_s > 0.01 or self.rng.random() < 0.1:
            self.slurm.tick()

    @contextmanager
    def ruling(self) -> Iterator[None]:
        with self.world.ruling(), pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.sleep", self._sleep)
            patch.setattr("launch.slurm.scheduler.Scheduler", lambda timeout_s=0.0: self.wire)
            patch.setattr("launch.settle.Scheduler", lambda timeout_s=0.0: self.wire)
            patch.setattr("launch.slurm.submission.snapshot", lambda store: Path("/"))
            patch.setattr("faulthandler.dump_traceback", lambda **options: None)
            yield

    def _start(self, job: Job) -> None:
        self.on_start(job)
        start = self.starts[job.id] = Start(job, job.restarts)
        start.script = self._spawn(start, "script", lambda: self._script(start))

    def _spawn(self, start: Start, name: str, work: Callable[[], int]) -> Process:
        job = start.job
        process = self.world.spawn(f"{job.id}.{start.restart} {name}", job.node, work, _variables(job))
        self._started_by[process] = start
        return process

    def _script(self, start: Start) -> int:
        words = [str(start.job.batch), str(start.job.index)]
        rank = start.rank = self._spawn(start, "rank 0", lambda: launch.job.main(words))
        self.world.wait(lambda: rank.is_over)
        code = launch.settle.main([*words, str(rank.code)])
        if start.is_current:
            self.slurm.finish(start.job, code)
        return code

    def _kill(self, job: Job) -> None:
        if self.lag_s:
            self.later(self.lag_s, self.starts[job.id].kill)
        else:
            self.starts[job.id].kill()

    def _sleep(self, seconds: float) -> None:
        process = self.world.current
        trouble = self.troubled.pop(process.main, "") if process is not None and seconds == STEP_S else ""
        if trouble == "raises":
            raise RuntimeError("this step fails")
        self.world.sleep(3 * 3600 if trouble == "hangs" else seconds)


class Logins:
    """Where somebody types the line of a plan, again and again."""

    def __init__(self, cluster: Cluster, plan: Plan, store: Store) -> None:
        self.cluster, self.plan, self.store = cluster, plan, store
        self.launchers: list[Process] = []

    def type(self, *, may_die: bool, force: Sequence[str] = ()) -> Process:
        def work() -> int:
            names = [stage.name for stage in self.plan]
            profile, scheduler = Profile(name="default"), cast(Scheduler, self.cluster.wire)
            return execute(self.plan, names, self.store, profile=profile, force=force, scheduler=scheduler)

        rng = self.cluster.rng
        host = rng.choice(["login1", "login1", "login2"])
        line = self.cluster.world.spawn(f"line {len(self.launchers) + 1}", host, work)
        if may_die and rng.random() < 0.5:
            line.turns_left = rng.randint(0, LINE_TURNS)
        self.launchers.append(line)
        return line


def _variables(job: Job) -> dict[str, str]:
    found = {
        "VSSL_LAUNCHED": "1",
        "VSSL_ATTEMPT": f"{job.id}.{job.restarts}",
        "SLURM_ARRAY_JOB_ID": str(job.array),
        "SLURM_ARRAY_TASK_ID": str(job.index),
        "SLURM_JOB_NODELIST": job.node,
        "SLURMD_NODENAME": job.node,
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "1",
        "SLURM_LOCALID": "0",
    }
    return found | ({"SLURM_RESTART_COUNT": str(job.restarts)} if job.restarts else {})
