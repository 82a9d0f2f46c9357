"""What tests of submissions share: a profile, a clock, and what becomes of jobs."""

from launch.slurm.profiles import Profile
from tests.launch.slurm_records import finish
from vssl.artifacts import read_json

PROFILE = Profile(name="test", sbatch_at_once=1)  # so that the ids of jobs have the order of the plan


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


def work(slurm, store, plan, fail=()):
    """Let everything that may run do so, until the queue stands still."""
    while running := [job for job in slurm.jobs.values() if job.state == "RUNNING"]:
        for job in running:
            name = read_json(job.batch / "elements.json")["elements"][str(job.index)]["name"]
            if name not in fail:
                finish(store, plan, name)
            slurm.finish(job, 1 if name in fail else 0)
        slurm.clock.now += 2
        slurm.tick()


def make_busy(slurm):
    """No node is free any more."""
    nodes = slurm.nodes()
    slurm.hosts, slurm.nodes = [], lambda: nodes


def held(slurm):
    return [job.id for job in slurm.jobs.values() if job.held and not job.is_over]
