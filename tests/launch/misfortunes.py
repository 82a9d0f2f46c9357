"""What can happen to a pipeline on its way: to its jobs, to the launchers, and between them and Slurm."""

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from launch.slurm.scheduler import SchedulerRefusedError
from tests.launch.cluster import Cluster, Logins, Start

GRACE_S = 6.0
WRITES = ("submit", "release", "cancel")
OF_A_JOB = ["preempted", "signalled", "rank killed", "job killed", "raises", "hangs", "cancelled", *["node lost"] * 3]
OF_THE_REST = ["launcher killed", "line", "forgotten", "silent", "answer lost"]


class Misfortunes:
    """A seed decides which, and whom they meet."""

    def __init__(self, cluster: Cluster, logins: Logins) -> None:
        self.rng, self.cluster, self.logins = cluster.rng, cluster, logins
        self.trace: list[str] = []
        cluster.wire.on_death = self._outlive

    def happen(self) -> None:
        current = [start for start in self.cluster.starts.values() if start.is_current and start.rank is not None]
        kinds = OF_A_JOB if current and self.rng.random() < 0.7 else OF_THE_REST
        kind = self.rng.choice(kinds)
        start = self.rng.choice(current) if current else None
        self._note(f"{kind} {start.job.id if start else ''}")
        if kind in OF_THE_REST:
            self._to_the_rest(kind)
        elif start is not None:
            self._to_a_job(start, kind)

    def _note(self, what: str) -> None:
        self.trace.append(f"{self.cluster.world.now_s:.1f} {what}")

    def _to_the_rest(self, kind: str) -> None:
        slurm, wire = self.cluster.slurm, self.cluster.wire
        typing = [one for one in self.logins.launchers if not one.is_over]
        if kind == "line":
            self.logins.type(may_die=True)
        elif kind == "forgotten":
            for job in [job for job in slurm.jobs.values() if job.is_over]:
                job.end_s -= slurm.min_job_age_s
        elif kind == "silent":
            wire.silent_until_s = self.cluster.world.now_s + self.rng.uniform(0, 400)
        elif kind == "answer lost":
            wire.lost_answers += 1
        elif kind == "launcher killed" and typing:
            self.rng.choice(typing).kill()

    def _to_a_job(self, start: Start, kind: str) -> None:
        assert start.rank is not None
        if kind == "preempted":
            start.signal(signal.SIGUSR2)
            self.cluster.later(GRACE_S, lambda: self._end_grace(start))
        elif kind == "signalled":
            start.signal(signal.SIGUSR2)
        elif kind == "rank killed":
            start.rank.kill()
        elif kind == "job killed":
            start.kill()
            self.cluster.slurm.finish(start.job, 137)
        elif kind == "node lost":
            self._lose_node(start)
        elif kind in ("raises", "hangs"):
            self.cluster.troubled[start.rank] = kind
        elif kind == "cancelled":
            self.cluster.slurm.cancel([self.rng.choice([start.job.id, str(start.job.array)])])

    def _end_grace(self, start: Start) -> None:
        if start.is_current:
            log = start.job.batch / "logs" / f"{start.job.index}.log"
            with open(log, "a") as stream:
                stream.write(
                    f"slurmstepd: error: *** JOB 1 ON {start.job.node} CANCELLED AT now DUE TO PREEMPTION ***\n"
                )
            self.cluster.slurm.start_anew(start.job)

    def _lose_node(self, start: Start) -> None:
        """Its processes go on beside those of the next start, or hang for a while in the middle of a write."""
        assert start.rank is not None
        now_s = self.cluster.world.now_s
        self.cluster.lag_s = lag_s = self.rng.choice([0.0, 20.0, 200.0])
        if self.rng.random() < 0.5:
            start.rank.stalls_until_s = now_s + self.rng.uniform(0, min(lag_s, 40.0))
        self.cluster.slurm.start_anew(start.job)
        start.job.begin_s = now_s + self.rng.uniform(1, 15)  # somebody clears it
        self.cluster.lag_s = 0.0

    def _outlive(self, name: str, command: Callable[[], Any]) -> None:
        """A command comes through after the death of the launcher that gave it."""
        process = self.cluster.world.current
        if name not in WRITES or process not in self.logins.launchers or self.rng.random() >= 0.5:
            return
        self._note(f"late {name}")

        def late() -> None:
            with suppress(SchedulerRefusedError, FileNotFoundError):
                command()

        self.cluster.later(self.rng.uniform(0, 60), late)
        if self.rng.random() < 0.5:
            self.logins.type(may_die=True)  # and it is typed again at once
