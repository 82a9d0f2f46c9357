"""Space that a pipeline's results will take, estimated from what a rehearsal has made, beside what is free."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launch.store import Store
from launch.trials.checks import Check
from launch.trials.rehearsing import Rehearsal

_CHECKPOINTS_KEPT = 2
# type -> what its size grows with
_TREES = {"dataset": "frames", "flow": "frames", "features": "videos", "predictions": "videos"}


@dataclass
class _Need:
    place: Path
    bytes: float = 0.0


def disk_checks(rehearsal: Rehearsal, store: Store) -> Iterator[Check]:
    """One check for each disk that results go to."""
    needs: dict[int, _Need] = {}
    unknown = []
    for number, group in enumerate(rehearsal.groups):
        report = rehearsal.report(number)
        if "artifacts" not in report:
            unknown.append(group.first.name)
            continue
        if group.first.dispensable:
            continue  # a whole that gives what its parts hold a second name
        videos, frames, of_videos, of_frames = rehearsal.share(number)
        grows = {"frames": of_frames / frames, "videos": of_videos / videos}
        made = sum(one["bytes"] * grows.get(_TREES.get(one["type"], ""), 1.0) for one in report["artifacts"].values())
        sizes = {store.artifact_root.get(group.first.kind, store.root): made}
        sizes[store.root] = sizes.get(store.root, 0.0) + _CHECKPOINTS_KEPT * report["checkpoint_bytes"]
        for place, size in sizes.items():
            existing = next(path for path in (place, *place.absolute().parents) if path.exists())
            need = needs.setdefault(existing.stat().st_dev, _Need(existing))
            need.bytes += size * len(group.stages)
    for need in needs.values():
        free = shutil.disk_usage(need.place).free
        without = f", not counting {', '.join(unknown)}" if unknown else ""
        note = f"about {_said(need.bytes)} needed under {need.place}, {_said(free)} free{without}"
        writable = os.access(need.place, os.W_OK)
        if not writable:
            note = f"{need.place} cannot be written"
        yield Check(what="disk", result="ok" if writable and need.bytes < free else "refused", note=note)


def _said(size: float) -> str:
    for unit, bytes_ in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= bytes_:
            return f"{size / bytes_:,.3g} {unit}"
    return f"{size / 1e3:,.0f} kB"
