"""What `vssl doctor` runs on a node, before its trial stage: `python -m launch.trials.node_check FOLDER`.

It leaves what it found in the folder, and measures how late a file comes into sight that the other machine wrote.
"""

import os
import socket
import sys
import time
from pathlib import Path

from launch.provenance import versions
from launch.running.claims import server_now_s
from vssl.artifacts import write_json

APPEARS_S = 150.0  # after which a file will not come into sight any more
_LOOK_EVERY_S = 0.1


def found_on_node(folder: Path) -> Path:
    """Facts of the node, written at once."""
    return folder / "node.json"


def asked_from_here(folder: Path) -> Path:
    """Made by the doctor once it has seen those facts."""
    return folder / "asked.json"


def seen_on_node(folder: Path) -> Path:
    """How late that came into sight on the node."""
    return folder / "seen.json"


def delay_s(path: Path, wait_s: float = APPEARS_S) -> float | None:
    """Seconds from the making of a file to its coming into sight here, by the file server's clock; None: it did not."""
    deadline = time.monotonic() + wait_s
    while not path.exists():
        if time.monotonic() > deadline:
            return None
        list(path.parent.iterdir())  # asks the file server anew instead of a cached "no such file"
        time.sleep(_LOOK_EVERY_S)
    return max(0.0, server_now_s(path.parent) - path.stat().st_mtime)


def main(words: list[str]) -> int:
    """Look around, say it, and wait for the other side."""
    folder = Path(words[0])
    name = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    write_json(
        found_on_node(folder),
        {
            "node": name,
            "host": socket.gethostname(),
            "python": sys.executable,
            "versions": versions(),
            "unresolved": [one for one in {name, socket.gethostname()} if not _resolves(one)],
        },
    )
    write_json(seen_on_node(folder), {"delay_s": delay_s(asked_from_here(folder))})
    return 0


def _resolves(name: str) -> bool:
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
