"""`vssl doctor`: what this site allows, found out with one short job, and what to set in the profile."""

from collections.abc import Callable, Iterator
from pathlib import Path

from launch.slurm.profiles import Profile, read_profile
from launch.slurm.scheduler import Scheduler
from launch.store import Store
from launch.trials.site_check import Finding, check_locks, check_queue, check_site
from launch.trials.trial_job import TrialJob

WAIT_S = 600.0  # for the queue to start one small job


def examine(
    root: Path,
    cluster: str | None,
    scheduler: Scheduler | None = None,
    *,
    wait_s: float = WAIT_S,
    say: Callable[[str], None],
) -> Iterator[Finding]:
    """Findings as they come: the configuration, the queue and the locks, then the job.

    Args:
        root: the store; it must be seen from this machine and from the nodes.
        cluster: name of the profile; None: the default one.
        scheduler: None: Slurm's commands on this machine.
        wait_s: how long the queue may let the job wait.
        say: told what is being waited for.

    Raises:
        ConfigError: no such profile, or no Slurm on this machine.
        SchedulerSilentError: the controller does not answer.
    """
    profile: Profile = read_profile(cluster)
    scheduler = scheduler or Scheduler()
    store = Store(root)
    yield from check_site(scheduler, profile)
    yield from check_queue(store, scheduler.queue())
    yield from check_locks(store)
    yield from TrialJob(root, profile, scheduler, wait_s, say).run()


def line(finding: Finding) -> str:
    """For a person."""
    return f"{finding.mark:<6} {finding.text}" + (f"\n       -> {finding.todo}" if finding.todo else "")
