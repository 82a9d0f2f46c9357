"""`vssl gc`: what no live, pinned or recent pipeline reaches, and how it is removed. Sources are never touched.

Nothing is ever half removed: a folder is first renamed into `.removing/`, where nobody reads, and what a crash leaves
there the next removal takes away.
"""

import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.running.claims import is_live, newest
from launch.running.local_queues import live_queues
from launch.store import Store
from launch.verbs.pins import is_pinned
from launch.verbs.targets import pipelines
from vssl.artifacts import read_json

GRACE_S = 3600.0  # what was written since is left alone: somebody may be about to use it
_DAY_S = 86400.0


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A folder that may go."""

    path: Path
    why: str
    size: int  # bytes, those that it holds on another disk included


def find_garbage(
    store: Store, in_flight: Collection[str], older_than_days: float | None = None, now_s: float | None = None
) -> list[Garbage]:
    """Everything that may go, pipelines first.

    Args:
        store: the store.
        in_flight: folder names of the stages in Slurm's queue.
        older_than_days: pipelines in which nothing has happened for so long may go; None: every pipeline stays.
        now_s: None: now.
    """
    now_s = time.time() if now_s is None else now_s
    old: dict[Path, str] = {}
    reached = set(in_flight)
    for folder in pipelines(store.root):
        stages = stage_folders(folder)
        days = (now_s - _last_use_s(folder, stages, store)) / _DAY_S
        if older_than_days is None or days < older_than_days or _is_kept(folder, stages, in_flight, store, now_s):
            reached |= stages
        else:
            old[folder] = f"a pipeline that was last used {days:.0f} days ago"
    batches = {path: read_json(path / "elements.json") for path in _folders(store.batches)}
    idle = {path: why for path, record in batches.items() if (why := _why_batch(path, record, reached))}
    code = {
        Path(record["slurm"]["snapshot"]).name
        for path, record in batches.items()
        if path not in idle and record is not None and "slurm" in record
    }
    found = old | _idle_stages(store, reached, now_s)
    found |= dict.fromkeys(_folders(store.debug("").root), "left by executor=debug")
    found |= dict.fromkeys(_folders(store.trials), "left by `vssl doctor`")
    found |= idle | {path: "code that no batch uses" for path in _folders(store.code) if path.name not in code}
    return list(_measured(found, set(old), now_s))


def stage_folders(pipeline: Path) -> set[str]:
    """Folder names of the stages of a pipeline."""
    plan: Mapping[str, Any] = read_json(pipeline / "plan.json") or {"stages": ()}
    return {f"{stage['kind']}-{stage['stage_id']}" for stage in plan["stages"]}


def remove(garbage: Iterable[Garbage], store: Store) -> Iterator[Garbage]:
    """Remove folders, and first what an earlier removal left; yields each once it is gone."""
    for left in _folders(store.removing):
        _delete(left)
    for one in garbage:
        with store.writing():
            store.removing.mkdir(exist_ok=True)
            aside = store.removing / f"{one.path.name}.{uuid.uuid4().hex[:8]}"
            try:
                one.path.chmod(one.path.stat().st_mode | 0o700)  # snapshots are read-only
                one.path.rename(aside)
            except FileNotFoundError:
                continue  # somebody else removes, too
            _delete(aside)
        yield one


def _is_kept(pipeline: Path, stages: set[str], in_flight: Collection[str], store: Store, now_s: float) -> bool:
    """Whether a pipeline is pinned or live."""
    return (
        is_pinned(pipeline)
        or not stages.isdisjoint(in_flight)
        or bool(live_queues(store, pipeline.name))
        or any(_runs(store, name, now_s) for name in stages)
    )


def _runs(store: Store, name: str, now_s: float) -> bool:
    last = newest(store.stage(name))
    return last is not None and is_live(last, store.stage(name), now_s)


def _last_use_s(pipeline: Path, stages: Iterable[str], store: Store) -> float:
    """When a pipeline was last submitted, or a stage of it last started or completed."""
    marks = [pipeline / "plan.json"]
    for name in stages:
        folder = store.stage(name)
        marks += [folder.done, folder.attempts]
    return max(map(_modified_s, marks))


def _idle_stages(store: Store, reached: Collection[str], now_s: float) -> dict[Path, str]:
    found: dict[Path, str] = {}
    for path in _folders(store.stage("").root):
        name, aside, _ = path.name.partition("~")
        if name not in reached:
            if aside or not _runs(store, name, now_s):
                found[path] = "a stage that no pipeline uses"
        elif aside and store.stage(name).done.exists():  # until then it is the only result there is
            found[path] = "an earlier generation of a stage that was redone"
    return found


def _why_batch(path: Path, record: Mapping[str, Any] | None, reached: Collection[str]) -> str:
    """Why a batch may go; nothing where it may not."""
    if record is None:
        return "a batch that was never written"
    if (path / "void.json").exists():
        return "a batch that was given up"
    stages = {f"{element['kind']}-{element['stage_id']}" for element in record["elements"].values()}
    return "" if not stages.isdisjoint(reached) else "a batch of stages that no pipeline uses"


def _measured(found: Mapping[Path, str], at_once: Collection[Path], now_s: float) -> Iterator[Garbage]:
    """With sizes; what is still fresh is left out, but for pipelines, whose age was asked for."""
    for path, why in found.items():
        size, newest_s = _measure(path)
        if path in at_once or now_s - newest_s > GRACE_S:
            yield Garbage(path=path, why=why, size=size)


def _measure(path: Path) -> tuple[int, float]:
    """(bytes, time of the newest file) of a folder; artifacts on another disk belong to it."""
    size, newest_s = 0, _modified_s(path)
    for root in filter(None, (path, _linked_artifacts(path, path.name))):
        for place, _, names in os.walk(root):
            for name in names:
                try:
                    found = (Path(place) / name).lstat()
                except FileNotFoundError:
                    continue
                size, newest_s = size + found.st_size, max(newest_s, found.st_mtime)
    return size, newest_s


def _linked_artifacts(folder: Path, name: str) -> Path | None:
    """Where a stage's artifacts lie if not in its folder; only a folder that the store made for this very stage."""
    link = folder / "artifacts"
    if not link.is_symlink():
        return None
    target = link.readlink()
    ours = target.name.rpartition(".")[0] == name.partition("~")[0]
    return target if ours and target.is_dir() else None


def _delete(aside: Path) -> None:
    """Delete a folder that was renamed aside; its link to another disk goes last, so that a crash loses no trace."""
    linked = _linked_artifacts(aside, aside.name.rpartition(".")[0])
    if linked is not None:
        shutil.rmtree(linked)
    for place, _, _ in os.walk(aside):
        Path(place).chmod(0o700)
    shutil.rmtree(aside)


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
    except FileNotFoundError:
        return []


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
