"""The end of a stage: check what it promised, digest what it made, and write the completion record last."""

import math
from collections.abc import Mapping
from typing import Any

from launch.exit_codes import DONE
from launch.provenance import changed_versions, code_digest, versions
from launch.running.claims import Claim, attempts, now_ms
from launch.running.elements import Element
from launch.running.guard import listing_path
from launch.store import generation
from vssl.artifacts import (
    FILE_TYPES,
    StageFolder,
    canonical_json,
    create_json,
    sha256_file,
    sha256_text,
    sync,
    tree_listing,
    write_json,
)
from vssl.run import Run, StageError, SupersededError
from vssl.stages import STAGES


def complete(
    element: Element,
    inputs: Mapping[str, Any],
    metrics: Mapping[str, float],
    run: Run,
    mine: Claim,
    wall_s: float,
) -> None:
    """Write `result.json`, then `done.json`: from then on the stage is finished.

    Args:
        element: what was asked for.
        inputs: role -> [{id, type, digest, origin}] as the guard found them.
        metrics: what the stage's function returned.
        run: the run, for its journal and ownership.
        mine: the claim under which it ran.
        wall_s: seconds of this attempt.

    Raises:
        StageError: a promised artifact is missing, or a metric is not a number.
        SupersededError: another attempt owns the stage.
    """
    folder = run.folder
    broken = [f"{name}={value}" for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise StageError(f"{element.name} ended with {', '.join(broken)}: it diverged; lower optim.base_lr")
    artifacts = {
        name: _describe(folder, element, name, artifact_type)
        for name, artifact_type in STAGES[element.kind].makes.items()
        if artifact_type != "plots" or (folder.artifacts / name).exists()
    }
    journal_bytes = run.journal.sync() if folder.journal.exists() else 0
    history = attempts(folder)
    record = {
        "kind": element.kind,
        "stage_id": element.stage_id,
        "name": element.name,
        "pipeline": element.pipeline,
        "generation": generation(folder),
        "metrics": dict(metrics),
        "artifacts": artifacts,
        "inputs": dict(inputs),
        "journal_bytes": journal_bytes,
        "token": mine.token,
        "attempts": len(history),
        "ranks": mine.record["ranks"],
        "host": mine.record["process"]["host"],
        "started_at_ms": history[0]["started_at_ms"],
        "completed_at_ms": now_ms(),
        "wall_s": round(wall_s + sum(map(_seconds, history)), 3),
        "code": code_digest(),
        "earlier_code": sorted({attempt["code"] for attempt in history} - {code_digest()}),
        "earlier_versions": sorted({changed_versions(attempt["versions"], versions()) for attempt in history} - {""}),
        "versions": versions(),
    }
    run.check_ownership()
    write_json(folder.result, {"metrics": dict(metrics)})
    run.check_ownership()
    if not create_json(folder.done, record):
        raise SupersededError(f"{element.name} was completed by another attempt; this one is void")
    mine.finish("done", DONE)


def _describe(folder: StageFolder, element: Element, name: str, artifact_type: str) -> dict[str, Any]:
    """Digest, size and type of an artifact, once it is durable."""
    path = folder.artifacts / name
    is_file = artifact_type in FILE_TYPES
    if not (path.is_file() if is_file else path.is_dir()):
        raise StageError(f"{element.name} promised the {'file' if is_file else 'folder'} {path} and did not make it")
    if is_file:
        sync(path)
        return {"type": artifact_type, "digest": sha256_file(path), "size": path.stat().st_size}
    listing = tree_listing(path)
    for relative, _, _ in listing:
        sync(path / relative)
    for inner in (path, *(found for found in path.rglob("*") if found.is_dir())):
        sync(inner)
    write_json(listing_path(folder, name), listing)
    return {
        "type": artifact_type,
        "digest": sha256_text(canonical_json(listing)),
        "size": sum(size for _, size, _ in listing),
        "files": len(listing),
    }


def _seconds(attempt: Mapping[str, Any]) -> float:
    """Length of an ended attempt; 0 for one whose end nobody recorded, and for the running one."""
    return float(attempt.get("ended_at_ms", attempt["started_at_ms"]) - attempt["started_at_ms"]) / 1000
