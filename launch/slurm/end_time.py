"""When Slurm will end a job, asked of its controller: releases before 23.02 do not tell the job itself."""

from launch.running.allocation import Allocation
from launch.slurm.scheduler import Scheduler, SchedulerRefusedError, SchedulerSilentError
from vssl.config import ConfigError


def end_of_job(allocation: Allocation, scheduler: Scheduler) -> float | None:
    """In seconds since the epoch; None where Slurm does not answer, or never will."""
    try:
        end = scheduler.show_job(allocation.job).get("EndTime", "")
    except (SchedulerSilentError, SchedulerRefusedError, ConfigError):
        return None
    return float(end) if end.isdigit() else None
