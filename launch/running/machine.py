"""What this machine has to run stages on, and how much of it is free. No torch: the driver's own tool counts GPUs."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

from launch.plan import Resources
from vssl.config import ConfigError


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of a machine that one running stage holds."""

    ranks: int
    cores: int
    gpus: tuple[str, ...] = ()


class Machine:
    """Cores and GPUs, given out and taken back.

    A stage that asks for GPUs is limited by GPUs, any other by cores. A request larger than the machine is cut to what
    there is, since the same sweep runs on a laptop: one rank per GPU, and one rank where there is no GPU.
    """

    def __init__(self, cores: int, gpus: tuple[str, ...] = ()) -> None:
        self.cores = cores
        self.gpus = gpus
        self._free_cores = cores
        self._free_gpus = list(gpus)

    @classmethod
    def here(cls) -> "Machine":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(cores, gpus_of(os.environ))

    def share_for(self, resources: Resources) -> tuple[int, int, int]:
        """(ranks, cores, GPUs) that a stage gets here."""
        if resources.gpus_per_node and self.gpus:
            gpus = min(resources.nodes * resources.gpus_per_node, len(self.gpus))
            return min(resources.ranks, gpus), 0, gpus
        ranks = 1 if resources.gpus_per_node else resources.ranks
        return ranks, min(self.cores, ranks * resources.cpus_per_task), 0

    def take(self, resources: Resources) -> Share | None:
        """A share for a stage, or None while too little is free."""
        ranks, cores, gpus = self.share_for(resources)
        if cores > self._free_cores or gpus > len(self._free_gpus):
            return None
        self._free_cores -= cores
        taken = tuple(self._free_gpus.pop(0) for _ in range(gpus))
        return Share(ranks=ranks, cores=cores, gpus=taken)

    def give_back(self, share: Share) -> None:
        self._free_cores += share.cores
        self._free_gpus = [gpu for gpu in self.gpus if gpu in self._free_gpus or gpu in share.gpus]

    def __str__(self) -> str:
        return f"{self.cores} cores, {len(self.gpus)} GPUs"


def gpus_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the visible GPUs, as CUDA_VISIBLE_DEVICES takes them.

    Raises:
        ConfigError: the driver's tool is there and does not answer.
    """
    if "CUDA_VISIBLE_DEVICES" in environment:
        names = [name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",")]
        return tuple(takewhile(lambda name: name not in ("", "-1", "NoDevFiles"), names))  # as the driver reads it
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        raise ConfigError(
            "nvidia-smi does not answer; set CUDA_VISIBLE_DEVICES to the GPUs to use, or to nothing for none"
        ) from None
    lines = listed.stdout.splitlines() if listed.returncode == 0 else []
    return tuple(line.split(":")[0].removeprefix("GPU ").strip() for line in lines if line.startswith("GPU "))
