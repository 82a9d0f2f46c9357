"""What a site's own configuration says that concerns our jobs, without running one."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launch.running.processes import is_alive
from launch.slurm.partitions import Site
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import NAME_PREFIX, QueuedElement, Scheduler
from launch.store import Store
from vssl.artifacts import read_json

Mark = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that the doctor found, and what to do where something is to be done."""

    mark: Mark
    text: str
    todo: str = ""


def check_site(scheduler: Scheduler, profile: Profile) -> Iterator[Finding]:
    """Limits, preemption, accounting and partitions, held against a profile."""
    config = scheduler.config()
    yield _accounting(config)
    yield from _keys(config, profile)
    yield from _limits(config, scheduler, profile)
    yield from _preemption(config)
    yield from _partitions(Site.read(scheduler), profile)


def check_queue(store: Store, queue: Sequence[QueuedElement]) -> Iterator[Finding]:
    """Jobs with our prefix that no batch of this store knows."""
    unknown: dict[str, int] = {}
    for one in queue:
        if one.name.startswith(NAME_PREFIX) and not (store.batches / one.name.removeprefix(NAME_PREFIX)).is_dir():
            unknown[f"{one.array} ({one.name})"] = unknown.get(f"{one.array} ({one.name})", 0) + 1
    for job, number in unknown.items():
        yield Finding(
            mark="note",
            text=f"job {job} with {number} elements belongs to no batch of {store.root}",
            todo="another store's, perhaps: leave it; otherwise `scancel` it",
        )


def check_locks(store: Store) -> Iterator[Finding]:
    """Locks whose holder on this host is dead: nobody waits for them, but somebody was killed."""
    submitting = sorted(store.submitting.glob("[0-9]*.json"), key=lambda path: int(path.stem))
    for path in submitting[-1:]:
        record = read_json(path) or {}
        if "released_at_ms" not in record and is_alive(record.get("owner", {})) is False:
            text = f"a launcher died while it submitted (process {record['owner']['pid']})"
            yield Finding(mark="note", text=text, todo="the same line goes on from what it left")
    for path in sorted(store.pipelines.glob("*/tracking.lock")):
        record = read_json(path) or {}
        if record.get("host") == socket.gethostname() and not Path(f"/proc/{record['pid']}").exists():
            text = f"process {record['pid']} died while it pushed {path.parent.name} to MLflow"
            yield Finding(mark="note", text=text, todo="`vssl sync` goes on")


def _accounting(config: Mapping[str, str]) -> Finding:
    kind = config.get("AccountingStorageType", "")
    if kind.endswith("/none") or kind in ("", "(null)"):
        return Finding(mark="note", text="accounting is off; everything works without it, `why` has a source less")
    return Finding(mark="ok", text=f"accounting is on ({kind.rpartition('/')[2]})")


def _keys(config: Mapping[str, str], profile: Profile) -> Iterator[Finding]:
    enforced = config.get("AccountingStorageEnforce", "").lower()
    given = "wckey" in profile.parameters
    if "wckeys" in enforced and not given:
        yield Finding(mark="wrong", text="this site refuses jobs without a wckey of yours", todo="set wckey: YOURS")
    elif given and "wckeys" not in enforced and config.get("TrackWCKey", "No").lower() == "no":
        yield Finding(mark="note", text="this site does not track wckeys", todo="leave wckey out")
    else:
        yield Finding(mark="ok", text="wckey: the one in the profile" if given else "wckey: none is needed")


def _limits(config: Mapping[str, str], scheduler: Scheduler, profile: Profile) -> Iterator[Finding]:
    yield Finding(mark="ok", text=f"MaxArraySize is {config.get('MaxArraySize', 'unknown')}; larger arrays are split")
    account, qos = (str(profile.parameters.get(name, "")) for name in ("account", "qos"))
    limit = scheduler.submit_limit(account, qos)
    if limit is None:
        yield Finding(mark="ok", text="no limit on the number of queued jobs is known (MaxSubmitJobs)")
    elif profile.max_submit_jobs is not None and profile.max_submit_jobs > limit:
        text = f"the profile queues up to {profile.max_submit_jobs} jobs, and this site takes {limit} (MaxSubmitJobs)"
        yield Finding(mark="wrong", text=text, todo=f"set vssl.max_submit_jobs: {limit}")
    else:
        yield Finding(mark="ok", text=f"at most {limit} jobs may be queued (MaxSubmitJobs); the rest follows later")


def _preemption(config: Mapping[str, str]) -> Iterator[Finding]:
    kind = config.get("PreemptType", "").rpartition("/")[2]
    if kind in ("", "none", "(null)"):
        yield Finding(mark="ok", text="no job is preempted here")
    else:
        mode = config.get("PreemptMode", "")
        signal = "preempt_send_user_signal" in config.get("SlurmctldParameters", "")
        how = "USR2, then SIGTERM" if signal else "SIGTERM"
        yield Finding(mark="ok", text=f"jobs may be preempted ({kind}, {mode}); a stage is told by {how} and saves")
        if mode.startswith("CANCEL"):
            text = "preempted jobs are cancelled here, not requeued"
            yield Finding(mark="note", text=text, todo="the same line goes on from what they saved")
    wait_s = config.get("KillWait", "").partition(" ")[0]
    if wait_s.isdigit() and int(wait_s) < 10:
        text = f"KillWait is {wait_s} s: a stage that needs longer to save after SIGTERM keeps only its last save"
        yield Finding(mark="note", text=text, todo="save often: stages.all.runtime.save_every_min=5")


def _partitions(site: Site, profile: Profile) -> Iterator[Finding]:
    known = ", ".join(site.partitions)
    wanted = [name for name in str(profile.parameters.get("partition") or site.default or "").split(",") if name]
    missing = [name for name in wanted if name not in site.partitions]
    if missing or not wanted:
        what = (
            f"there is no partition {', '.join(missing)} here" if missing else "no partition is named, or the default"
        )
        yield Finding(mark="wrong", text=f"{what}; there are {known}", todo="set partition: NAME")
        return
    for name in wanted:
        keys = site.partitions[name]
        grace = keys.get("GraceTime", "0")
        gres = sorted({one["gres"] for one in site.nodes if one["partition"] == name} - {"(null)", ""})
        said = f"partition {name}: MaxTime {keys.get('MaxTime', 'unknown')}, GraceTime {grace} s"
        yield Finding(mark="ok", text=f"{said}, GRES {', '.join(gres) or 'none'}")
        if keys.get("State", "UP") != "UP":
            yield Finding(mark="wrong", text=f"partition {name} is {keys['State']}", todo="ask the administrators")
