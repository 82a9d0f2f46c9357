"""What a site says to stages before they are queued: its partitions' limits, and when each kind of job could start."""

import re
import tempfile
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path

from launch.plan import Plan, Resources
from launch.slurm.partitions import Site, check_requests
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import Scheduler, SchedulerRefusedError, SchedulerSilentError
from launch.slurm.snapshot import snapshot_path
from launch.store import Store
from launch.trials.checks import Check
from vssl.config import ConfigError

_START = re.compile(r"to start at (\S+) using \d+ processors? on (?:nodes?) (\S+)(?: in partition (\S+))?")


def slurm_checks(
    plan: Plan, names: Collection[str], store: Store, profile: Profile, scheduler: Scheduler
) -> Iterator[Check]:
    """One check for the limits of the partitions, one for each set of resources that is asked for."""
    try:
        try:
            check_requests(plan, names, profile, Site.read(scheduler))
        except ConfigError as error:
            for line in str(error).splitlines():
                yield Check(what="partitions", result="refused", note=line)
        asked: dict[Resources, list[str]] = {}
        for stage in plan:
            if stage.name in names:
                asked.setdefault(stage.resources, []).append(stage.element)
        for resources, elements in asked.items():
            note = ", ".join(dict.fromkeys(elements))
            yield _test_only(resources, note, store, profile, scheduler)
    except SchedulerSilentError as error:
        yield Check(what="slurm", result="no answer", note=f"{error}; try again")


def _test_only(resources: Resources, wanted_by: str, store: Store, profile: Profile, scheduler: Scheduler) -> Check:
    """Ask sbatch for a job of this size, without queueing it."""
    from launch.executors.slurm import script_text  # submitit takes a while to import

    code, batch = snapshot_path(store), store.batches / "preflight"
    text = script_text(batch, resources, profile, indices=[0], dependency="", snapshot=code)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.sh"
        script.write_text(text)
        try:
            said = scheduler.test_only(script, Path(folder))
        except SchedulerRefusedError as error:
            return Check(what=_size(resources), result="refused", note=f"{error.text} (for {wanted_by})")
    found = _START.search(said)
    when = said if found is None else f"could start {_clock(found[1])} on {found[2]}"
    where = f", partition {found[3]}" if found is not None and found[3] else ""
    return Check(what=_size(resources), result="ok", note=f"{when}{where} (for {wanted_by})")


def _size(resources: Resources) -> str:
    gpus = f"{resources.gpus_per_node} GPUs, " if resources.gpus_per_node else ""
    cores = resources.tasks_per_node * resources.cpus_per_task
    return f"{resources.nodes} x ({gpus}{cores} cores, {resources.mem_gb:g} GB), {resources.timeout_min} min"


def _clock(text: str) -> str:
    """A moment in sbatch's words, as a person says it."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return f"at {text}"
    today = moment.date() == datetime.now().date()
    return f"at {moment:%H:%M}" if today else f"on {moment:%d %b at %H:%M}"
