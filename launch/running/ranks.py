"""Which process of which launch this is, and how its stage is told so."""

import uuid
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.provenance import CHECKOUT, code_digest
from launch.running.allocation import Allocation, is_marked, tasks_of_node
from launch.running.guard import RefusedError
from vssl.config import ConfigError

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
# All that a stage reads, or that would tell it of other ranks than its own.
_FOR_THE_STAGE = (*_TORCHRUN, "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "VSSL_RENDEZVOUS", "VSSL_NODE")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One process of a launch."""

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    nonce: str  # shared by all ranks of one launch, and by no other launch
    slurm: Allocation | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Launch":
        """Slurm's variables beside our marker, else torchrun's full set; a plain python is rank 0 of 1.

        Raises:
            ConfigError: a part of a set, numbers that contradict each other, or ranks without a common nonce.
        """
        slurm = Allocation.from_environment(environment)
        names = _SLURM if is_marked(environment) and any(map(environment.get, _SLURM)) else _TORCHRUN
        values = {name: environment[name] for name in names if environment.get(name)}
        if values and len(values) < len(names):
            missing = ", ".join(name for name in names if name not in values)
            raise ConfigError(
                f"{', '.join(values)} set but not {missing}: a partial set would start the wrong number of ranks; "
                f"set all of {', '.join(names)}, or none of them for one process"
            )
        try:
            rank, ranks, local_rank = (int(values[name]) for name in names) if values else (0, 1, 0)
        except ValueError:
            raise ConfigError(f"expected whole numbers, got {values}") from None
        if not 0 <= rank < ranks:
            raise ConfigError(f"{names[0]}={rank} and {names[1]}={ranks}: ranks run from 0 to {names[1]} - 1")
        nonce = environment.get("VSSL_ATTEMPT", "") if slurm is None else slurm.nonce
        if ranks > 1 and not nonce:
            raise ConfigError("VSSL_ATTEMPT is not set: the ranks of one launch share a value that no other launch has")
        return cls(rank=rank, ranks=ranks, local_rank=local_rank, nonce=nonce or uuid.uuid4().hex[:12], slurm=slurm)

    @property
    def key(self) -> str:
        """What tells this launch from the others of its batch element: the restart count on Slurm."""
        return self.nonce if self.slurm is None else str(self.slurm.restart)

    def check(self, batch: Mapping[str, Any]) -> None:
        """Hold this launch against what the submitter of its batch wanted.

        Args:
            batch: the batch's record.

        Raises:
            ConfigError: another number of ranks was started. Exit code 2: a profile or a script has to be mended.
            RefusedError: other code runs than the snapshot that was made for the batch.
        """
        wanted: Mapping[str, Any] = batch.get("slurm") or {}
        if wanted and wanted["ranks"] != self.ranks:
            where = "outside of its job" if self.slurm is None else f"on {self.slurm.hosts} ({self.slurm.node} here)"
            raise ConfigError(
                f"{wanted['name']} is made for {wanted['ranks']} ranks, but {self.ranks} were started {where}; "
                "start them with the batch's own script, and see that the site's srun leaves --nodes and "
                "--ntasks-per-node as they are"
            )
        if wanted.get("snapshot") and batch["code"] != code_digest():
            raise RefusedError(
                f"the code in {CHECKOUT} is not the one that this batch was made with ({wanted['snapshot']}): the "
                "snapshot was edited, or the setup lines put another folder first on PYTHONPATH; mend that and submit "
                "again"
            )

    def tell_the_stage(self, environment: MutableMapping[str, str], meeting: Path) -> None:
        """Say in torchrun's words what Slurm said; what stands there was inherited from another launcher.

        Args:
            environment: this process's own, which is changed.
            meeting: the file through which the ranks find one another.
        """
        if self.slurm is None:
            return
        for name in _FOR_THE_STAGE:
            environment.pop(name, None)
        if self.slurm.node:
            environment["VSSL_NODE"] = self.slurm.node
        if self.ranks > 1:
            numbers = {"RANK": self.rank, "WORLD_SIZE": self.ranks, "LOCAL_RANK": self.local_rank}
            here = tasks_of_node(environment)
            numbers |= {} if here is None else {"LOCAL_WORLD_SIZE": here}
            environment.update({name: str(number) for name, number in numbers.items()})
            environment["VSSL_RENDEZVOUS"] = str(meeting)
