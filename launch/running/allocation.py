"""The Slurm job around a process. Slurm's variables count beside the marker of our own script alone.

A plain python inside an allocation has them too, and is not rank 0 of anything.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MARKER = "VSSL_LAUNCHED"


def is_marked(environment: Mapping[str, str]) -> bool:
    """Whether our own job script, or our own queue, started this process."""
    return environment.get(MARKER) == "1"


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """One start of one array element."""

    job: str  # "<array>_<index>": the raw id of one element is that of the whole array
    restart: int = 0
    start: str = ""  # of the script, by the clock of its node; "" outside of our script
    hosts: str = ""  # node list, as Slurm writes it
    node: str = ""  # Slurm's name of this machine
    nodes: int = 1
    end_s: float | None = None  # when Slurm ends it; releases before 23.02 do not say

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Allocation | None":
        """The allocation that a job of ours runs in; None elsewhere."""
        array, index = (environment.get(name) for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"))
        if not is_marked(environment) or not array or not index:
            return None
        end = environment.get("SLURM_JOB_END_TIME", "")
        return cls(
            job=f"{array}_{index}",
            restart=int(environment.get("SLURM_RESTART_COUNT") or 0),
            start=environment.get("VSSL_START", ""),
            hosts=environment.get("SLURM_JOB_NODELIST", ""),
            node=environment.get("SLURMD_NODENAME", ""),
            nodes=int(environment.get("SLURM_JOB_NUM_NODES") or 1),
            end_s=float(end) if end.isdigit() else None,
        )

    @property
    def nonce(self) -> str:
        """Tells this start from every other one, on all its ranks.

        Slurm's count alone does not: a controller that is killed may come back with an older one.
        """
        return f"{self.job}.{self.restart}" + (f".{self.start}" if self.start else "")

    def facts(self) -> dict[str, Any]:
        """What an attempt's record holds of it."""
        return {"job": self.job, "restart": self.restart, "hosts": self.hosts, "end_time_s": self.end_s}


def tasks_of_node(environment: Mapping[str, str]) -> int | None:
    """How many tasks of this step run on this node, from Slurm's "2(x3),1"; None where that cannot be read."""
    node = environment.get("SLURM_NODEID", "")
    tasks: list[int] = []
    for part in environment.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if found is None:
            return None
        tasks += [int(found[1])] * int(found[2] or 1)
    return tasks[int(node)] if node.isdigit() and int(node) < len(tasks) else None
