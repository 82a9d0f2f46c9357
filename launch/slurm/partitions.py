"""Whether a site's partitions can give what stages ask for: known before anything is queued and waits for ever."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.plan import Plan, Resources
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import Scheduler
from vssl.config import ConfigError, nearest

_UNLIMITED = float("inf")


@dataclass(frozen=True, kw_only=True)
class Site:
    """The partitions and their nodes, as Slurm's own keys and words."""

    partitions: Mapping[str, Mapping[str, str]]
    nodes: Sequence[Mapping[str, str]]  # groups of equal ones: partition, nodes, cpus, memory_mb, gres, features

    @classmethod
    def read(cls, scheduler: Scheduler) -> "Site":
        return cls(partitions=scheduler.partitions(), nodes=scheduler.nodes())

    @property
    def default(self) -> str | None:
        """The partition of jobs that name none."""
        return next((name for name, keys in self.partitions.items() if keys.get("Default") == "YES"), None)


@dataclass(frozen=True)
class _Problem:
    asked: str
    allowed: str
    change: str  # key of the stage's resources


def check_requests(plan: Plan, names: Collection[str], profile: Profile, site: Site) -> None:
    """Refuse stages that would wait for ever, all at once.

    Raises:
        ConfigError: what is asked for, what the partition allows, and what to change.
    """
    asked = {(stage.template, stage.resources) for stage in plan if stage.name in names}
    order = {stage.template: number for number, stage in enumerate(plan)}
    found: list[str] = []
    for template, resources in sorted(asked, key=lambda one: order[one[0]]):
        found += _problems(template, resources, profile.parameters_for(resources), profile, site)
    if found:
        raise ConfigError("\n".join(dict.fromkeys(found)))


def _problems(
    template: str, resources: Resources, parameters: Mapping[str, Any], profile: Profile, site: Site
) -> list[str]:
    delay_s = profile.policy.signal_delay_s
    if resources.timeout_min * 60 <= delay_s:
        return [
            f"{template} has {resources.timeout_min} min, and is told to save and stop {delay_s} s before their end: "
            f"raise stages.{template}.resources.timeout_min, or lower signal_delay_s in profile {profile.name}"
        ]
    wanted = str(parameters.get("partition") or site.default or "")
    known = ", ".join(site.partitions)
    if not wanted:
        return [f"profile {profile.name} names no partition, and this site has no default one; accepted: {known}"]
    by_partition: dict[str, list[_Problem]] = {}
    for partition in wanted.split(","):  # Slurm takes the one that starts first
        if partition not in site.partitions:
            near = nearest(partition, site.partitions)
            return [f"profile {profile.name}: this site has no partition `{partition}`{near}; accepted: {known}"]
        by_partition[partition] = list(_beyond(resources, parameters, partition, site))
    if not all(by_partition.values()):
        return []
    partition, problems = next(iter(by_partition.items()))
    others = [name for name in site.partitions if name not in by_partition]
    fitting = [name for name in others if not list(_beyond(resources, parameters, name, site))]
    other = f", or choose partition {' or '.join(fitting)} in profile {profile.name}" if fitting else ""
    return [
        f"{template} asks for {one.asked}, and partition {partition} {one.allowed}: change "
        f"stages.{template}.resources.{one.change}{other}"
        for one in problems
    ]


def _beyond(resources: Resources, parameters: Mapping[str, Any], partition: str, site: Site) -> Iterator[_Problem]:
    """What of a request a partition cannot give."""
    keys = site.partitions[partition]
    limit_min = minutes(keys.get("MaxTime", ""))
    if resources.timeout_min > limit_min:
        yield _Problem(f"{resources.timeout_min} min", f"allows {limit_min:g} (MaxTime)", "timeout_min")
    max_nodes = _number(keys.get("MaxNodes", ""))
    if resources.nodes > max_nodes:
        yield _Problem(f"{resources.nodes} nodes", f"allows {max_nodes:g} (MaxNodes)", "nodes")
    memory_mb = 0.0 if {"mem_per_cpu", "mem_per_gpu"} & parameters.keys() else resources.mem_gb * 1024
    max_memory_mb = _number(keys.get("MaxMemPerNode", ""))
    if memory_mb > max_memory_mb:
        yield _Problem(f"{resources.mem_gb:g} GB a node", f"allows {max_memory_mb / 1024:g} (MaxMemPerNode)", "mem_gb")
        memory_mb = 0.0
    nodes = [one for one in site.nodes if one["partition"] == partition]
    if not nodes:  # a site may hide them
        return
    cores = resources.tasks_per_node * resources.cpus_per_task
    largest = max((_number(one["cpus"]) for one in nodes), default=0)
    most = min(largest, _number(keys.get("MaxCPUsPerNode", "")))
    if cores > most:
        asked = f"{cores} cores a node ({resources.tasks_per_node} tasks of {resources.cpus_per_task})"
        yield _Problem(asked, f"has {most:g} on its largest", "cpus_per_task")
        return
    gpu_type = re.match(r"gpu:(\w+):", str(parameters.get("gres", "")))
    fitting = 0.0
    best_gb, best_gpus = 0.0, 0
    for one in nodes:
        gpus = _gpus(one["gres"], gpu_type[1] if gpu_type else None)
        best_gb, best_gpus = max(best_gb, _number(one["memory_mb"]) / 1024), max(best_gpus, gpus)
        enough = _number(one["memory_mb"]) >= memory_mb and _number(one["cpus"]) >= cores
        if enough and gpus >= resources.gpus_per_node:
            fitting += _number(one["nodes"])
    if memory_mb > best_gb * 1024:
        yield _Problem(f"{resources.mem_gb:g} GB a node", f"has {best_gb:g} on its largest", "mem_gb")
    elif resources.gpus_per_node > best_gpus:
        sort = f" of type {gpu_type[1]}" if gpu_type else ""
        yield _Problem(f"{resources.gpus_per_node} GPUs a node", f"has {best_gpus}{sort} on its best", "gpus_per_node")
    elif resources.nodes > fitting:
        yield _Problem(f"{resources.nodes} such nodes", f"has {fitting:g}", "nodes")


def minutes(text: str) -> float:
    """A time limit in Slurm's words: UNLIMITED, 2-12:00:00, 12:00:00, 30:00, 30."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if found is None:
        return _UNLIMITED
    days, first, second, third = (int(part) if part else 0 for part in found.groups())
    if found[1] or found[4]:  # days-hours:minutes:seconds, or hours:minutes:seconds
        return days * 1440 + first * 60 + second + third / 60
    return first + second / 60  # minutes:seconds


def _number(text: str) -> float:
    """A count, as in 20000 or 20000+; what is no number sets no limit."""
    found = re.match(r"\d+", text)
    return float(found[0]) if found else _UNLIMITED


def _gpus(gres: str, of_type: str | None) -> int:
    """GPUs of a node, from "gpu:a100:4(S:0-1),gpu:v100:2,tmpfs:100"."""
    found = re.findall(r"(?:^|,)gpu(?::([A-Za-z_][\w.-]*))?:(\d+)", gres)
    return sum(int(count) for name, count in found if of_type is None or name == of_type)
