"""Is the process that wrote a record still alive? A process id alone cannot tell: ids are reused, hosts reboot."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def identity() -> dict[str, Any]:
    """This process, told apart from every other one: host, boot, process namespace, id and start time."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "pid_started": _started(os.getpid()), **_world()}


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a recorded process still runs; None where this host cannot tell (another host, boot or namespace)."""
    world = _world()
    if not world["boot_id"] or any(process.get(key) != value for key, value in world.items()):
        return None
    return process.get("pid_started") is not None and _started(int(process["pid"])) == process["pid_started"]


def _world() -> dict[str, str]:
    """What a process id is relative to. Containers on one host share a boot but not their process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return {"boot_id": boot, "pid_namespace": str(Path("/proc/self/ns/pid").readlink())}
    except OSError:
        return {"boot_id": "", "pid_namespace": ""}


def _started(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None where it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
