"""Pinned pipelines: `vssl gc` keeps them, however old they are."""

import getpass
from pathlib import Path

from launch.running.claims import now_ms
from vssl.artifacts import write_json


def pin(pipeline: Path) -> None:
    """Mark a pipeline's folder."""
    write_json(_mark(pipeline), {"at_ms": now_ms(), "by": getpass.getuser()})


def unpin(pipeline: Path) -> bool:
    """Take the mark away; whether there was one."""
    found = is_pinned(pipeline)
    _mark(pipeline).unlink(missing_ok=True)
    return found


def is_pinned(pipeline: Path) -> bool:
    return _mark(pipeline).exists()


def _mark(pipeline: Path) -> Path:
    return pipeline / "pinned.json"
