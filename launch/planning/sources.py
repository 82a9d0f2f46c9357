"""Datasets before planning: prepare what is not, and what is no longer what it was.

Preparing reads every video, so it runs in a process of its own; checking compares names, sizes and times only.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from launch.provenance import search_path
from launch.store import Store
from vssl.config import ConfigError, build
from vssl.data.dataset_config import DatasetConfig
from vssl.stages import resolve

_NAMED = 5  # changed files that are spelled out
_STOP_WAIT_S = 10.0


def _say(text: str) -> None:
    print(text, flush=True)


def prepare_sources(
    datasets: Mapping[str, Mapping[str, Any]], store: Store, say: Callable[[str], None] = _say
) -> tuple[str, ...]:
    """Bring every dataset's source up to date.

    Args:
        datasets: source key -> DatasetConfig as plain values, as in a plan.
        store: where sources lie.
        say: takes lines for the person who watches.

    Returns:
        Keys whose digest is another one now: plans that name them have to be made again.

    Raises:
        ConfigError: a dataset cannot be used; its own message was printed.
    """
    moved = []
    for key, mapping in datasets.items():
        before = store.source_digest(key)
        differences = [] if before is None else changed_files(mapping, store)
        if before is not None and not differences:
            continue
        if differences:
            more = f" and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
            say(f"dataset {mapping['name']} changed since it was prepared: {'; '.join(differences[:_NAMED])}{more}")
        say(f"preparing dataset {mapping['name']} in {store.source(key)}")
        _prepare(mapping, store)
        if store.source_digest(key) != before:
            moved.append(key)
    return tuple(moved)


def changed_files(dataset: Mapping[str, Any], store: Store) -> list[str]:
    """What differs between a prepared dataset and its folder, by name, size and time."""
    found: list[str] = resolve("vssl.data.prepare:changed")(build(DatasetConfig, dataset), store.sources)
    return found


def _prepare(dataset: Mapping[str, Any], store: Store) -> None:
    new = [folder for folder in (store.sources, *store.sources.parents) if not folder.exists()]
    with store.writing():
        store.sources.mkdir(parents=True, exist_ok=True)
        if not os.access(store.sources, os.W_OK):
            raise PermissionError(13, "no permission to write", str(store.sources))
    words = [sys.executable, "-P", "-m", "vssl.data.prepare", json.dumps(dict(dataset)), str(store.sources)]
    succeeded = False
    try:
        succeeded = run_apart(words) == 0
    finally:
        for folder in () if succeeded else new:
            with suppress(OSError):  # what is not empty stays
                folder.rmdir()
    if not succeeded:
        raise ConfigError(
            f"dataset {dataset['name']} ({dataset.get('path') or 'generated'}) was not prepared, for the reason above; "
            "keys of data.dataset are set as in stages.all.data.dataset.path=FOLDER"
        )


def run_apart(words: Sequence[str]) -> int:
    """Exit code of a process in a group of its own: Ctrl-C here is passed on, and what it has begun is cleared away."""
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": search_path()}, start_new_session=True) as process:
        try:
            return process.wait()
        except BaseException:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_WAIT_S)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
