"""One pipeline on the fake Slurm, from the first line typed to its end, and all that happens to it on the way.

Everything runs in virtual time, and a seed decides what happens next after every durable operation and every command.
"""

import random
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from launch.batches import read_batch
from launch.exit_codes import DONE
from launch.plan import Plan
from launch.slurm.scheduler import NAME_PREFIX
from launch.store import Store
from tests.launch.cluster import Cluster, Logins
from tests.launch.invariants import Invariants
from tests.launch.misfortunes import Misfortunes
from tests.launch.shapes import SHAPES
from vssl.artifacts import read_json
from vssl.run import read_journal

CALM_LINES = 8  # after which everything must be done: a queue limit sends a pipeline in parts


class Schedule:
    """The pipeline of a seed, on the cluster of the seed."""

    def __init__(self, seed: int, root: Path, *, is_calm: bool = False) -> None:
        self.rng = random.Random(seed)
        self.is_calm = is_calm
        self.store = Store(root, visibility_s=0)
        self.plan = Plan(sweep="probes", scale="smoke", stages=tuple(SHAPES[seed % len(SHAPES)]()), datasets={})
        self.cluster = Cluster(self.rng)
        self.logins = Logins(self.cluster, self.plan, self.store)
        self.invariants = Invariants(self.cluster, self.plan, self.store)
        self.misfortunes = Misfortunes(self.cluster, self.logins)

    def ruling(self) -> AbstractContextManager[None]:
        return self.cluster.ruling()

    def run(self) -> None:
        """Some troubled lines, then calm ones."""
        for _ in range(0 if self.is_calm else self.rng.randint(1, 3)):
            self.logins.type(may_die=True)
            self.let_go_on(self.rng.randint(0, 4))
        self.go_on_in_calm()
        if not self.is_calm and self.rng.random() < 0.3:
            first = self.plan.stages[0]
            self.logins.type(may_die=True, force=[first.name])
            self.let_go_on(self.rng.randint(0, 2))
            self.go_on_in_calm()
        self.check_end()

    def go_on_in_calm(self) -> None:
        """The same line, as often as it takes."""
        self.cluster.wire.silent_until_s, self.cluster.wire.lost_answers = 0.0, 0
        for _ in range(CALM_LINES):
            self.logins.type(may_die=False)
            self.let_go_on(0)
            if self.is_complete():
                return
        raise AssertionError(f"{CALM_LINES} calm lines did not complete it")

    def let_go_on(self, misfortunes: int) -> None:
        """Until nothing moves any more."""
        world = self.cluster.world
        still_s = world.now_s
        while world.now_s - still_s < 200 or world.living:
            if world.living:
                still_s = world.now_s
            if misfortunes and self.rng.random() < 0.02:
                misfortunes -= 1
                self.misfortunes.happen()
                self.invariants.check_status()
            self.cluster.turn()

    def check_end(self) -> None:
        """Everything is done, once, and nothing is left over."""
        slurm = self.cluster.slurm
        if left := slurm.queue():
            # An sbatch that outlived its launcher came through after that had been given up: the next line that sends
            # something takes it out.
            batches = [read_batch(self.store.batches / one.name.removeprefix(NAME_PREFIX)) for one in left]
            assert all(batch is not None and batch.void for batch in batches), "something is left in the queue"
            assert {one.reason for one in left} == {"JobHeldUser"}
            self.logins.type(may_die=False, force=[self.plan.stages[-1].name])
            self.let_go_on(0)
        assert slurm.queue() == [], "something is left in the queue"
        assert self.invariants.completed == {stage.folder for stage in self.plan}
        writes = slurm.writes
        line = self.logins.type(may_die=False)
        self.let_go_on(0)
        assert (line.code, slurm.writes) == (DONE, writes), "what is done is sent again"
        for name in {job.name for job in (*slurm.history, *slurm.jobs.values())}:
            assert read_batch(self.store.batches / name.removeprefix(NAME_PREFIX)) is not None, f"{name} is an orphan"

    def is_complete(self) -> bool:
        return len(self.store.reusable_stages(self.plan)) == len(self.plan.stages)

    def outcome(self) -> dict[str, Any]:
        """What the stages leave to whoever uses them."""
        found = {}
        for stage in self.plan:
            folder = self.store.stage(stage.folder)
            done = read_json(folder.done)
            rows = [(row["step"], row["values"]) for row in read_journal(folder.journal, done["journal_bytes"])]
            found[stage.name] = (rows, done["metrics"], done["artifacts"])
        return found
