"""One pipeline on the fake Slurm, from the first line typed to its end, and all that happens to it on the way.

The launcher, the job and the end of its script are the real code; everything runs in virtual time, and a seed decides
what happens next after every durable operation and every command.
"""

import json
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

import launch.job
import launch.settle
from launch.batches import read_batch
from launch.executors.slurm import execute
from launch.exit_codes import DONE
from launch.plan import Plan, PlannedStage
from launch.slurm.profiles import Profile
from launch.slurm.queue_view import look
from launch.slurm.scheduler import NAME_PREFIX, Scheduler, SchedulerRefusedError, SchedulerSilentError
from launch.status import plan_status
from launch.store import Store
from tests.launch.conftest import planned
from tests.launch.fake_slurm import FakeSlurm, Job
from tests.launch.turns import Killed, Process, World
from vssl.artifacts import read_json
from vssl.run import read_journal

STEP_S = 9.0
GRACE_S = 6.0
CALM_LINES = 8  # after which everything must be done: a queue limit sends a pipeline in parts
IDLE_S = 5.0
WRITES = ("submit", "release", "cancel")
OF_A_JOB = ["preempted", "signalled", "rank killed", "job killed", "raises", "hangs", "cancelled", *["node lost"] * 3]
OF_THE_REST = ["launcher killed", "line", "forgotten", "silent", "answer lost"]
LINE_TURNS = 110  # a line that sends everything takes about as many


def lanes(element: str, count: int, *parents: list[PlannedStage]) -> list[PlannedStage]:
    """A stage in some lanes; of each parent, the stage of the same lane or the only one."""
    found = []
    for lane in range(count):
        above = [stages[lane % len(stages)] for stages in parents]
        one = planned(f"{element}.{lane}", above, seed=100 * ord(element[0]) + lane, steps=2, step_s=STEP_S)
        found.append(replace(one, element=element, template=element, lane=lane if count > 1 else None))
    return found


def chain() -> list[PlannedStage]:
    a = lanes("a", 2)
    b = lanes("b", 2, a)
    return [*a, *b, *lanes("c", 2, b, a)]


def fan() -> list[PlannedStage]:
    a, b = lanes("a", 1), lanes("b", 2)
    c = lanes("c", 2, a, b)
    return [*a, *b, *c, *lanes("d", 1, c[:1], c[1:])]


def grid() -> list[PlannedStage]:
    a = lanes("a", 2)
    return [*a, *lanes("b", 4, a)]


SHAPES = (chain, fan, grid)


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

    def signal(self, number: int) -> None:
        if self.rank is not None:  # the script's trap swallows it
            self.rank.signals.append(number)

    def kill(self) -> None:
        for process in (self.rank, self.script):
            if process is not None:
                process.kill()


Check = Callable[[str, tuple[Any, ...]], None]
Outlives = Callable[[str, Callable[[], Any]], None]


class Wire:
    """The way to the controller: others go on before and after a command, and answers can be lost."""

    def __init__(self, world: World, slurm: FakeSlurm, check: Check, outlives: Outlives) -> None:
        self.world, self.slurm, self.check, self.outlives = world, slurm, check, outlives
        self.silent_until_s = 0.0
        self.lost_answers = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.slurm, name)
        if not callable(found) or name == "queued_total":
            return found

        def command(*arguments: Any) -> Any:
            try:
                self.world.hand_over()
            except Killed:  # the command may outlive whoever gave it
                self.outlives(name, lambda: found(*arguments))
                raise
            self.check(name, arguments)
            if self.world.now_s < self.silent_until_s:
                raise SchedulerSilentError(f"{name}: Unable to contact slurm controller")
            answer = found(*arguments)
            self.world.hand_over()
            if self.lost_answers:
                self.lost_answers -= 1
                raise SchedulerSilentError(f"{name}: Socket timed out")
            return answer

        return command


class Schedule:
    """One pipeline, from the first line typed to its end."""

    def __init__(self, seed: int, root: Path, *, is_calm: bool = False) -> None:
        self.rng = random.Random(seed)
        self.is_calm = is_calm
        self.stages = f"{root / 'stages'}/"
        self.world = World(self.rng)
        self.store = Store(root, visibility_s=0)
        self.slurm = FakeSlurm(lambda: self.world.now_s, self.start, self.kill)
        self.slurm.min_job_age_s = self.rng.choice([10.0, 300.0])
        self.slurm.has_accounting = self.rng.random() < 0.5
        self.slurm.max_submit = self.rng.choice([None, None, 4])
        del self.slurm.hosts[self.rng.randint(2, 4) :]
        self.wire = Wire(self.world, self.slurm, self.check_command, self.outlive)
        self.plan = Plan(sweep="probes", scale="smoke", stages=tuple(SHAPES[seed % len(SHAPES)]()), datasets={})
        self.starts: dict[str, Start] = {}  # job -> its newest start
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.launchers: list[Process] = []
        self.started_by: dict[Process, Start] = {}
        self.owners: dict[str, Start] = {}  # stage folder -> the start that claimed it last
        self.completed: set[str] = set()
        self.troubled: dict[Process, str] = {}
        self.lag_s = 0.0
        self.trace: list[str] = []
        self.world.on_write = self.check_write

    # What happens in the world.

    def line(self, *, may_die: bool, force: Sequence[str] = ()) -> Process:
        """Somebody types the line."""

        def work() -> int:
            names = [stage.name for stage in self.plan]
            profile, scheduler = Profile(name="default"), cast(Scheduler, self.wire)
            return execute(self.plan, names, self.store, profile=profile, force=force, scheduler=scheduler)

        host = self.rng.choice(["login1", "login1", "login2"])
        line = self.world.spawn(f"line {len(self.launchers) + 1}", host, work)
        if may_die and self.rng.random() < 0.5:
            line.turns_left = self.rng.randint(0, LINE_TURNS)
        self.launchers.append(line)
        return line

    def start(self, job: Job) -> None:
        others = [one for one in self.slurm.jobs.values() if one is not job and self.may_work(one)]
        assert stage_of(job) not in map(stage_of, others), f"{job.id} does the work of another job"
        start = self.starts[job.id] = Start(job, job.restarts)
        start.script = self.spawn(start, "script", lambda: self.script(start))

    def may_work(self, job: Job) -> bool:
        """Whether an element could still run its stage; one whose rank has ended is only tidied up."""
        rank = self.starts[job.id].rank if job.state == "RUNNING" else None
        return job.state in ("PENDING", "RUNNING") and not job.held and (rank is None or not rank.is_over)

    def spawn(self, start: Start, name: str, work: Callable[[], int]) -> Process:
        job = start.job
        process = self.world.spawn(f"{job.id}.{start.restart} {name}", job.node, work, variables(job))
        self.started_by[process] = start
        return process

    def script(self, start: Start) -> int:
        words = [str(start.job.batch), str(start.job.index)]
        rank = start.rank = self.spawn(start, "rank 0", lambda: launch.job.main(words))
        self.world.wait(lambda: rank.is_over)
        code = launch.settle.main([*words, str(rank.code)])
        if start.is_current:
            self.slurm.finish(start.job, code)
        return code

    def kill(self, job: Job) -> None:
        if self.lag_s:
            self.later.append((self.world.now_s + self.lag_s, self.starts[job.id].kill))
        else:
            self.starts[job.id].kill()

    def sleep(self, seconds: float) -> None:
        process = self.world.current
        trouble = self.troubled.pop(process.main, "") if process is not None and seconds == STEP_S else ""
        if trouble == "raises":
            raise RuntimeError("this step fails")
        self.world.sleep(3 * 3600 if trouble == "hangs" else seconds)

    def outlive(self, name: str, command: Callable[[], Any]) -> None:
        process = self.world.current
        if name in WRITES and process in self.launchers and self.rng.random() < 0.5:
            self.trace.append(f"{self.world.now_s:.1f} late {name}")

            def late() -> None:
                with suppress(SchedulerRefusedError, FileNotFoundError):
                    command()

            self.later.append((self.world.now_s + self.rng.uniform(0, 60), late))
            if self.rng.random() < 0.5:
                self.line(may_die=True)  # and it is typed again at once

    def incident(self) -> None:
        current = [start for start in self.starts.values() if start.is_current and start.rank is not None]
        typing = [one for one in self.launchers if not one.is_over]
        kinds = OF_A_JOB if current and self.rng.random() < 0.7 else OF_THE_REST
        kind = self.rng.choice(kinds)
        start = self.rng.choice(current) if current else None
        self.trace.append(f"{self.world.now_s:.1f} {kind} {start.job.id if start else ''}")
        if kind == "line":
            self.line(may_die=True)
        elif kind == "forgotten":
            for job in [job for job in self.slurm.jobs.values() if job.is_over]:
                job.end_s -= self.slurm.min_job_age_s
        elif kind == "silent":
            self.wire.silent_until_s = self.world.now_s + self.rng.uniform(0, 400)
        elif kind == "answer lost":
            self.wire.lost_answers += 1
        elif kind == "launcher killed" and typing:
            self.rng.choice(typing).kill()
        elif start is not None:
            self.happens_to(start, kind)

    def happens_to(self, start: Start, kind: str) -> None:
        assert start.rank is not None
        if kind == "preempted":
            start.signal(signal.SIGUSR2)
            self.later.append((self.world.now_s + GRACE_S, lambda: self.end_grace(start)))
        elif kind == "signalled":
            start.signal(signal.SIGUSR2)
        elif kind == "rank killed":
            start.rank.kill()
        elif kind == "job killed":
            start.kill()
            self.slurm.finish(start.job, 137)
        elif kind == "node lost":
            self.lag_s = self.rng.choice([0.0, 20.0, 200.0])  # its processes go on beside those of the next start,
            if self.rng.random() < 0.5:  # or hang for a while in the middle of a write
                start.rank.stalls_until_s = self.world.now_s + self.rng.uniform(0, min(self.lag_s, 40.0))
            self.slurm.start_anew(start.job)
            start.job.begin_s = self.world.now_s + self.rng.uniform(1, 15)  # somebody clears it
            self.lag_s = 0.0
        elif kind in ("raises", "hangs"):
            self.troubled[start.rank] = kind
        elif kind == "cancelled":
            self.slurm.cancel([self.rng.choice([start.job.id, str(start.job.array)])])

    def end_grace(self, start: Start) -> None:
        if start.is_current:
            log = start.job.batch / "logs" / f"{start.job.index}.log"
            with open(log, "a") as stream:
                stream.write(
                    f"slurmstepd: error: *** JOB 1 ON {start.job.node} CANCELLED AT now DUE TO PREEMPTION ***\n"
                )
            self.slurm.start_anew(start.job)

    # What must hold at every instant.

    def check_write(self, process: Process, operation: str, path: Path) -> None:
        if path.suffix == ".json" and operation in ("replace", "link"):
            json.loads(path.read_text())
        if operation not in ("rename", "link") or not str(path).startswith(self.stages):
            return
        name, *inner = path.relative_to(self.stages).parts
        if operation == "rename" and not inner:
            self.completed.discard(name.partition("~")[0])
        elif inner[0] == "attempts":
            self.check_claim(name, self.start_of(process))
        elif inner == ["done.json"]:
            assert name not in self.completed, f"{name} was completed twice"
            self.completed.add(name)

    def check_command(self, name: str, arguments: tuple[Any, ...]) -> None:
        start = self.start_of(self.world.current)
        if name == "requeue" and start is not None:
            succeeded = start.job.state == "RUNNING" and start.job.restarts != start.restart
            assert not succeeded, f"{start.job.id}.{start.restart} requeued its own next start"

    def start_of(self, process: Process | None) -> Start | None:
        """The start of a job that a process belongs to."""
        return None if process is None else self.started_by.get(process.main)

    def check_claim(self, name: str, start: Start | None) -> None:
        assert start is not None
        before = self.owners.get(name)
        self.owners[name] = start
        if before is not None and before is not start:
            alive = before.rank is not None and not before.rank.is_doomed
            assert not (alive and before.is_current), f"{name} is written by {before.job.id} and {start.job.id}"
        stage = next(stage for stage in self.plan if stage.folder == name)
        for parent in stage.parents:
            assert read_json(self.store.stage(self.plan[parent].folder).done) is not None, f"{name} before {parent}"

    # From beginning to end.

    @contextmanager
    def ruling(self) -> Iterator[None]:
        with self.world.ruling(), pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.sleep", self.sleep)
            patch.setattr("launch.slurm.scheduler.Scheduler", lambda timeout_s=0.0: self.wire)
            patch.setattr("launch.settle.Scheduler", lambda timeout_s=0.0: self.wire)
            patch.setattr("launch.slurm.submission.snapshot", lambda store: Path("/"))
            patch.setattr("faulthandler.dump_traceback", lambda **options: None)
            yield

    def run(self) -> None:
        """Some troubled lines, then calm ones."""
        for _ in range(0 if self.is_calm else self.rng.randint(1, 3)):
            self.line(may_die=True)
            self.let_go_on(self.rng.randint(0, 4))
        self.go_on_in_calm()
        if not self.is_calm and self.rng.random() < 0.3:
            first = self.plan.stages[0]
            self.line(may_die=True, force=[first.name])
            self.let_go_on(self.rng.randint(0, 2))
            self.go_on_in_calm()
        self.check_end()

    def go_on_in_calm(self) -> None:
        """The same line, as often as it takes."""
        self.wire.silent_until_s, self.wire.lost_answers = 0.0, 0
        for _ in range(CALM_LINES):
            self.line(may_die=False)
            self.let_go_on(0)
            if self.is_complete():
                return
        raise AssertionError(f"{CALM_LINES} calm lines did not complete it")

    def check_end(self) -> None:
        if left := self.slurm.queue():
            # An sbatch that outlived its launcher came through after that had been given up: the next line that sends
            # something takes it out.
            batches = [read_batch(self.store.batches / one.name.removeprefix(NAME_PREFIX)) for one in left]
            assert all(batch is not None and batch.void for batch in batches), "something is left in the queue"
            assert {one.reason for one in left} == {"JobHeldUser"}
            self.line(may_die=False, force=[self.plan.stages[-1].name])
            self.let_go_on(0)
        assert self.slurm.queue() == [], "something is left in the queue"
        assert self.completed == {stage.folder for stage in self.plan}
        writes = self.slurm.writes
        line = self.line(may_die=False)
        self.let_go_on(0)
        assert (line.code, self.slurm.writes) == (DONE, writes), "what is done is sent again"
        for name in {job.name for job in (*self.slurm.history, *self.slurm.jobs.values())}:
            assert read_batch(self.store.batches / name.removeprefix(NAME_PREFIX)) is not None, f"{name} is an orphan"

    def look(self) -> None:
        """What any verb would see at this instant."""
        pipeline = self.store.pipeline(self.plan).name
        view = look(
            self.store, [stage.folder for stage in self.plan], pipeline, cast(Scheduler, self.slurm), tidy=False
        )
        for one in plan_status(self.plan, self.store, view):
            start = self.owners.get(Path(one.folder).name)
            if start is not None and start.is_current and start.rank is not None and not start.rank.is_doomed:
                assert one.state in ("running", "done"), f"{one.name} is {one.state} while {start.job.id} runs"

    def let_go_on(self, incidents: int) -> None:
        """Until nothing moves any more."""
        still_s = self.world.now_s
        while self.world.now_s - still_s < 200 or self.world.living:
            if self.world.living:
                still_s = self.world.now_s
            if incidents and self.rng.random() < 0.02:
                incidents -= 1
                self.incident()
                self.look()
            due = [one for one in self.later if one[0] <= self.world.now_s]
            self.later = [one for one in self.later if one not in due]
            for _, happen in due:
                happen()
            before_s = self.world.now_s
            self.world.turn(min([before_s + IDLE_S, *(moment for moment, _ in self.later)]))
            if self.world.now_s - before_s > 0.01 or self.rng.random() < 0.1:
                self.slurm.tick()

    def outcome(self) -> dict[str, Any]:
        """What the stages leave to whoever uses them."""
        found = {}
        for stage in self.plan:
            folder = self.store.stage(stage.folder)
            done = read_json(folder.done)
            rows = [(row["step"], row["values"]) for row in read_journal(folder.journal, done["journal_bytes"])]
            found[stage.name] = (rows, done["metrics"], done["artifacts"])
        return found

    def is_complete(self) -> bool:
        return len(self.store.reusable_stages(self.plan)) == len(self.plan.stages)


def stage_of(job: Job) -> str:
    element = read_json(job.batch / "elements.json")["elements"][str(job.index)]
    return f"{element['kind']}-{element['stage_id']}"


def variables(job: Job) -> dict[str, str]:
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
