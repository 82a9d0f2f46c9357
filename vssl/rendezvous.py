"""How the ranks of a job find one another: a port that rank 0 has really bound, published in a file.

No fixed ports and no parsing of node lists: both collide or break on shared nodes. Waiting is bounded, and whoever
gives up says what it saw.
"""

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from vssl.artifacts import create_json, read_json
from vssl.run import StageError

_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_MASTER = ("MASTER_ADDR", "MASTER_PORT")
_SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}
_MARKER = "VSSL_LAUNCHED"
_FILE = "VSSL_RENDEZVOUS"


@dataclass(frozen=True, kw_only=True)
class Place:
    """One process among the processes of a stage."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    rendezvous: Path | None = None  # our own jobs: the file in which rank 0 publishes its port
    master: tuple[str, int] | None = None  # torchrun: host and port of its store


def place_from_environment(environment: Mapping[str, str], rendezvous: Path | None = None) -> Place:
    """Read rank, local rank and world size.

    torchrun's names count whenever they are set, and then all of them must be. Slurm's own count only beside our
    marker VSSL_LAUNCHED=1: a plain python inside an allocation has them too and is not rank 0 of anything.

    Args:
        environment: the process environment.
        rendezvous: file to meet through; None: the variable VSSL_RENDEZVOUS, if set.

    Raises:
        StageError: some variables are there and others are not, or they contradict each other.
    """
    file = rendezvous or (Path(environment[_FILE]) if environment.get(_FILE) else None)
    values = {name: environment[name] for name in _RANKS + _MASTER if environment.get(name)}
    if not values and environment.get(_MARKER) == "1":
        values = {name: environment[slurm] for name, slurm in _SLURM.items() if environment.get(slurm)}
        if values.get("WORLD_SIZE") == "1":
            return Place()
    if not values:
        return Place()
    wanted = _RANKS if file is not None else _RANKS + _MASTER
    missing = [name for name in wanted if name not in values]
    if missing:
        raise StageError(
            f"{', '.join(sorted(values))} set but not {', '.join(missing)}: a partial set of variables would start "
            f"the wrong number of ranks; set all of {', '.join(wanted)} ({_FILE} may stand for the MASTER ones), "
            "or none of them for one process"
        )
    numbers = {name: _number(name, values[name]) for name in wanted if name != "MASTER_ADDR"}
    if not 0 <= numbers["RANK"] < numbers["WORLD_SIZE"]:
        raise StageError(
            f"RANK is {numbers['RANK']} and WORLD_SIZE is {numbers['WORLD_SIZE']}; ranks run from 0 to WORLD_SIZE - 1"
        )
    return Place(
        rank=numbers["RANK"],
        local_rank=numbers["LOCAL_RANK"],
        world_size=numbers["WORLD_SIZE"],
        rendezvous=file,
        master=None if file is not None else (values["MASTER_ADDR"], numbers["MASTER_PORT"]),
    )


def meet(place: Place, *, backend: str, timeout_s: float) -> None:
    """Open torch's process group over the store that this place names.

    Raises:
        StageError: not all ranks came within `timeout_s`, or they disagree on the world size.
    """
    if place.rendezvous is not None:
        store = _host(place, timeout_s) if place.rank == 0 else _join(place, timeout_s)
    else:
        assert place.master is not None
        host, port = place.master
        store = _connect(host, port, place, timeout_s, is_master=place.rank == 0 and not _torchrun_has_store())
    dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.world_size)


def _torchrun_has_store() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise StageError(f"{name} is {text!r}; expected a whole number") from None


def _host(place: Place, timeout_s: float) -> dist.TCPStore:
    """Rank 0: bind a free port, publish it, wait for everybody."""
    assert place.rendezvous is not None
    store = dist.TCPStore("127.0.0.1", 0, place.world_size, True, timedelta(seconds=timeout_s), wait_for_workers=False)
    host = socket.gethostname()
    record = {"host": host, "port": store.port, "world_size": place.world_size, "pid": os.getpid()}
    place.rendezvous.parent.mkdir(parents=True, exist_ok=True)
    if not create_json(place.rendezvous, record):
        raise StageError(
            f"{place.rendezvous} exists already: another rank 0 of this attempt has published its port; give each "
            "attempt a rendezvous file of its own"
        )
    store.set("joined/0", host)
    names = [f"joined/{rank}" for rank in range(place.world_size)]
    try:
        store.wait(names, timedelta(seconds=timeout_s))
    except dist.DistStoreError:
        came = [f"rank {rank} on {store.get(name).decode()}" for rank, name in enumerate(names) if store.check([name])]
        raise StageError(
            f"{len(came)} of {place.world_size} ranks met at {host}:{store.port} within "
            f"{timeout_s:.0f} s ({'; '.join(came)}); look at the logs of the others, and whether their nodes can "
            "reach that host"
        ) from None
    return store


def _join(place: Place, timeout_s: float) -> dist.TCPStore:
    """Another rank: wait for the published port, connect, say hello."""
    assert place.rendezvous is not None
    deadline = time.monotonic() + timeout_s
    record: Any = read_json(place.rendezvous)
    while record is None:
        if time.monotonic() > deadline:
            raise StageError(
                f"rank {place.rank} of {place.world_size} on {socket.gethostname()} saw no {place.rendezvous} within "
                f"{timeout_s:.0f} s: rank 0 did not start, or its file is not visible here yet"
            )
        time.sleep(0.05)
        record = read_json(place.rendezvous)
    if record["world_size"] != place.world_size:
        raise StageError(
            f"rank {place.rank} on {socket.gethostname()} has WORLD_SIZE {place.world_size}, but rank 0 on "
            f"{record['host']} published {record['world_size']} in {place.rendezvous}; start all ranks of an attempt "
            "with the same world size"
        )
    same_machine = record["host"] == socket.gethostname()
    host = "127.0.0.1" if same_machine else record["host"]
    store = _connect(host, record["port"], place, max(deadline - time.monotonic(), 1.0), is_master=False)
    store.set(f"joined/{place.rank}", socket.gethostname())
    return store


def _connect(host: str, port: int, place: Place, timeout_s: float, *, is_master: bool) -> dist.TCPStore:
    try:
        return dist.TCPStore(
            host, port, place.world_size, is_master, timedelta(seconds=timeout_s), wait_for_workers=False
        )
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        raise StageError(
            f"rank {place.rank} of {place.world_size} on {socket.gethostname()} could not reach {host}:{port} within "
            f"{timeout_s:.0f} s ({str(error).splitlines()[0]}); check that the name resolves and the port is open "
            "between the nodes"
        ) from None
