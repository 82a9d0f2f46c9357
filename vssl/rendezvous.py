"""How the ranks of a job find one another: a port that rank 0 has really bound, published in a file.

No fixed ports and no parsing of node lists: both collide or break on shared nodes. Rank 0 publishes every name and
address that it has, and a joiner finds out which of them leads there. Waiting is bounded, and whoever gives up says
what it saw.
"""

import fcntl
import os
import socket
import struct
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import torch.distributed as dist

from vssl.artifacts import create_json, read_json
from vssl.run import LostRankError, StageError

_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_MASTER = ("MASTER_ADDR", "MASTER_PORT")
_FILE = "VSSL_RENDEZVOUS"
_NODE = "VSSL_NODE"  # what the scheduler calls this machine; it may know a better name than the machine itself
_TRY_S = 5.0  # for one address; a name that no server knows may take longer than a person waits
_HELLO_S = 10.0  # for the store behind a port that answers
_SIOCGIFADDR = 0x8915


@dataclass(frozen=True, kw_only=True)
class Place:
    """One process among the processes of a stage."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    rendezvous: Path | None = None  # our own jobs: the file in which rank 0 publishes its port
    master: tuple[str, int] | None = None  # torchrun: host and port of its store


def place_from_environment(environment: Mapping[str, str], rendezvous: Path | None = None) -> Place:
    """Read rank, local rank and world size under torchrun's names; without any of them a process is alone.

    Args:
        environment: the process environment.
        rendezvous: file to meet through; None: the variable VSSL_RENDEZVOUS, if set.

    Raises:
        StageError: some variables are there and others are not, or they contradict each other.
    """
    file = rendezvous or (Path(environment[_FILE]) if environment.get(_FILE) else None)
    values = {name: environment[name] for name in _RANKS + _MASTER if environment.get(name)}
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
    try:
        dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.world_size)
    except RuntimeError as error:
        raise LostRankError(
            f"rank {place.rank} of {place.world_size} on {_here()} met the others at {store.host}:{store.port}, but "
            f"could not open a {backend} group with them ({str(error).splitlines()[0]}); check that each node resolves "
            f"its own name to an address that the others reach, or name the interface in "
            f"{'NCCL' if backend == 'nccl' else 'GLOO'}_SOCKET_IFNAME"
        ) from None


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
    # Listened on here: torch would warn on a machine without IPv6, and what it binds it does not say before.
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    listener = socket.create_server(("", 0), family=family, dualstack_ipv6=dual, backlog=1024)
    port = listener.getsockname()[1]
    timeout = timedelta(seconds=timeout_s)
    store = dist.TCPStore(
        "127.0.0.1",
        port,
        place.world_size,
        True,
        timeout,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    meeting = uuid.uuid4().hex
    store.set("meeting", meeting)
    store.set("joined/0", _here())
    record = {
        "host": _here(),
        "addresses": _addresses(),
        "boot_id": _boot_id(),
        "port": port,
        "meeting": meeting,
        "world_size": place.world_size,
        "pid": os.getpid(),
    }
    place.rendezvous.parent.mkdir(parents=True, exist_ok=True)
    if not create_json(place.rendezvous, record):
        raise StageError(
            f"{place.rendezvous} exists already: another rank 0 of this attempt has published its port; give each "
            "attempt a rendezvous file of its own"
        )
    names = [f"joined/{rank}" for rank in range(place.world_size)]
    try:
        store.wait(names, timeout)
    except dist.DistStoreError:
        came = [f"rank {rank} on {store.get(name).decode()}" for rank, name in enumerate(names) if store.check([name])]
        raise LostRankError(
            f"{len(came)} of {place.world_size} ranks met at {_here()}:{port} within {timeout_s:.0f} s "
            f"({'; '.join(came)}); look at the logs of the others, and whether their nodes can reach that host"
        ) from None
    return store


def _join(place: Place, timeout_s: float) -> dist.TCPStore:
    """Another rank: wait for the published port, connect, say hello."""
    assert place.rendezvous is not None
    deadline = time.monotonic() + timeout_s
    record: Any = read_json(place.rendezvous)
    while record is None:
        if time.monotonic() > deadline:
            raise LostRankError(
                f"rank {place.rank} of {place.world_size} on {_here()} saw no {place.rendezvous} within "
                f"{timeout_s:.0f} s: rank 0 did not start, or its file is not visible here yet"
            )
        time.sleep(0.05)
        with suppress(OSError):
            list(place.rendezvous.parent.iterdir())  # asks the file server anew instead of a cached "no such file"
        record = read_json(place.rendezvous)
    if record["world_size"] != place.world_size:
        raise StageError(
            f"rank {place.rank} on {_here()} has WORLD_SIZE {place.world_size}, but rank 0 on {record['host']} "
            f"published {record['world_size']} in {place.rendezvous}; start all ranks of an attempt with the same "
            "world size"
        )
    store = _find(record, place, deadline, timeout_s)
    store.set(f"joined/{place.rank}", _here())
    return store


def _find(record: Mapping[str, Any], place: Place, deadline: float, timeout_s: float) -> dist.TCPStore:
    """The store of rank 0, by the first of its names that leads to it; on its own machine that is the loopback."""
    same_machine = ["127.0.0.1"] if record["boot_id"] == _boot_id() != "" else []
    tried: dict[str, str] = {}
    while True:
        for name in [*same_machine, *record["addresses"]]:
            address, tried[name] = _reached(name, record["port"], min(_TRY_S, max(deadline - time.monotonic(), 0.1)))
            if address is None:
                continue
            with suppress(StageError):
                store = _connect(address, record["port"], place, _HELLO_S, is_master=False)
                if store.check(["meeting"]) and store.get("meeting").decode() == record["meeting"]:
                    store.set_timeout(timedelta(seconds=timeout_s))  # the group waits with it for the last rank
                    return store
            tried[name] = "something else answers there"
        if time.monotonic() > deadline:
            raise LostRankError(
                f"rank {place.rank} of {place.world_size} on {_here()} could not reach rank 0 on {record['host']} at "
                f"port {record['port']} within {timeout_s:.0f} s "
                f"({'; '.join(f'{name}: {why}' for name, why in tried.items())}); check that one of these names "
                "resolves there, and that the ports between the nodes are open"
            )
        time.sleep(0.2)


def _reached(name: str, port: int, wait_s: float) -> tuple[str | None, str]:
    """(numeric address under which a port answers, why not). In a thread: no timeout bounds the look-up of a name."""
    found: list[tuple[str | None, str]] = []

    def attempt() -> None:
        try:
            with socket.create_connection((name, port), wait_s) as connection:
                found.append((connection.getpeername()[0], ""))
        except OSError as error:
            found.append((None, error.strerror or str(error)))

    thread = Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(wait_s)
    return found[0] if found else (None, f"no answer within {wait_s:.0f} s")


def _connect(host: str, port: int, place: Place, timeout_s: float, *, is_master: bool) -> dist.TCPStore:
    try:
        return dist.TCPStore(
            host, port, place.world_size, is_master, timedelta(seconds=timeout_s), wait_for_workers=False
        )
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        raise LostRankError(
            f"rank {place.rank} of {place.world_size} on {_here()} could not reach {host}:{port} within "
            f"{timeout_s:.0f} s ({str(error).splitlines()[0]}); check that the name resolves and the port is open "
            "between the nodes"
        ) from None


def _here() -> str:
    return os.environ.get(_NODE) or socket.gethostname()


def _addresses() -> list[str]:
    """Every name of this machine that others may know, then the address of each of its interfaces."""
    names = [os.environ.get(_NODE, ""), socket.gethostname()]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for _, interface in socket.if_nameindex():
            with suppress(OSError):  # it is down, or has no IPv4 address
                answer = fcntl.ioctl(asker, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
                names.append(socket.inet_ntoa(answer[20:24]))
    return [name for name in dict.fromkeys(names) if name and not name.startswith("127.")]


def _boot_id() -> str:
    """The same for all processes of a machine, whatever it is called; nothing where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
