"""Which processes run a pipeline's stages on this machine: the local executor's queue names itself in its batch."""

import json
from collections.abc import Mapping
from typing import Any

from launch.running.processes import is_alive
from launch.store import Store


def live_queues(store: Store, pipeline: str) -> list[Mapping[str, Any]]:
    """Identities of the living local queues of a pipeline, on this host."""
    found: list[Mapping[str, Any]] = []
    try:
        folders = list(store.batches.iterdir())
    except FileNotFoundError:
        return found
    for folder in folders:
        try:
            text = (folder / "elements.json").read_text()
        except OSError:
            continue
        if pipeline not in text:
            continue
        record = json.loads(text)
        launcher = record.get("launcher")
        of_pipeline = any(element["pipeline"] == pipeline for element in record["elements"].values())
        if record["executor"] == "local" and of_pipeline and launcher is not None and is_alive(launcher):
            found.append(launcher)
    return found
