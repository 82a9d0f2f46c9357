"""Turns a folder of videos into a source artifact: every file decoded once, broken ones named, content digested.

python -m vssl.data.prepare '<DatasetConfig as JSON>' <sources folder>
"""

import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from vssl.artifacts import canonical_json, read_json, sha256_file, sha256_text, write_atomic, write_json
from vssl.config import ConfigError, build
from vssl.data.dataset_config import DatasetConfig
from vssl.data.decode import BrokenVideo, inspect
from vssl.data.layout import Entry, Listing, find_videos
from vssl.data.manifest import COLUMNS
from vssl.data.processes import in_processes
from vssl.progress import track

Say = Callable[[str], None]

MIN_FRAMES = 4  # a shorter file shows no motion
_NAMED = 10  # excluded files that the report spells out


def prepare(config: DatasetConfig, sources: Path, say: Say) -> dict[str, Any]:
    """Make `<sources>/<key>/`: manifest.parquet, then source.json, whose presence means "prepared".

    Files that did not change since the last time are not read again.

    Args:
        config: the dataset.
        sources: folder of all sources.
        say: takes lines for the person who watches.

    Returns:
        The content of source.json: digest, name, root, classes, splits, excluded, prepared_at_ms.

    Raises:
        ConfigError: no usable videos, an unreadable list, too many broken files, or one content in two splits.
    """
    folder = sources / config.key()
    root = dataset_root(config, sources)
    if config.generated is not None:
        from vssl.data.generated import generate

        generate(config.generated, root, say)
    listing = find_videos(config, root)
    rows, excluded = _examine_all(listing, root, _previous(folder), say)
    _refuse_broken(config, root, listing, excluded)
    _refuse_leaks(rows)
    _report(config, listing, rows, excluded, say)
    return _write(config, folder, root, listing, rows, excluded)


def changed(config: DatasetConfig, sources: Path) -> list[str]:
    """What differs between a prepared dataset and its folder now, by name, size and time; empty if nothing does."""
    folder = sources / config.key()
    record = read_json(folder / "source.json")
    if record is None:
        return ["not prepared"]
    root = dataset_root(config, sources)
    listed = {entry.path: (entry.label, entry.split) for entry in find_videos(config, root).entries}
    known = _previous(folder)
    excluded = {entry["path"] for entry in record["excluded"]}
    found = []
    for path, row in known.items():
        if path not in listed:
            found.append(f"{path} is gone")
        elif not _same_file(root / path, row):
            found.append(f"{path} has another size or time")
        elif listed[path] != (row["label"], row["split"]):
            found.append(f"{path} has another label or split")
    return found + [f"{path} is new" for path in listed if path not in known and path not in excluded]


def dataset_root(config: DatasetConfig, sources: Path) -> Path:
    """Absolute folder of a dataset's videos. Generated ones lie beside the sources, named by their config.

    Raises:
        ConfigError: the config names no folder and generates nothing.
    """
    if config.generated is not None:
        return (sources.parent / "generated" / config.key()).absolute()
    if config.path is None:
        raise ConfigError(
            f"dataset {config.name} has neither `path` nor `generated`; set data.dataset.path to a folder"
        )
    return Path(config.path).expanduser().absolute()


def _previous(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        table = pd.read_parquet(folder / "manifest.parquet")
    except FileNotFoundError:
        return {}
    records: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    return {row["path"]: row for row in records} if set(COLUMNS) <= set(table.columns) else {}


def _same_file(path: Path, row: Mapping[str, Any]) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return (status.st_size, status.st_mtime_ns) == (row["size"], row["mtime_ns"])


def _examine_all(
    listing: Listing, root: Path, previous: Mapping[str, Mapping[str, Any]], say: Say
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """(manifest rows, excluded files with reasons), both sorted by path."""
    rows: list[dict[str, Any]] = []
    excluded: list[dict[str, str]] = []
    fresh: list[Entry] = []
    for entry in listing.entries:
        known = previous.get(entry.path)
        if known is not None and _same_file(root / entry.path, known):
            rows.append({**known, "label": entry.label, "split": entry.split})
        else:
            fresh.append(entry)
    workers = min(len(os.sched_getaffinity(0)), len(fresh))
    results = in_processes(_examine, [root / entry.path for entry in fresh], workers)
    for entry, found in zip(fresh, track(results, len(fresh), "reading videos", say)):
        if isinstance(found, str):
            excluded.append({"path": entry.path, "reason": f"{found} ({entry.where})" if entry.where else found})
        else:
            named = {"video_id": entry.path, "path": entry.path, "label": entry.label, "split": entry.split}
            rows.append({**named, **found})
    return sorted(rows, key=lambda row: row["path"]), sorted(excluded, key=lambda row: row["path"])


def _examine(path: Path) -> dict[str, Any] | str:
    """What the manifest records of one file, or why it cannot be used."""
    try:
        status = path.stat()
        info = inspect(path)
        if info.frames < MIN_FRAMES:
            return f"only {info.frames} frames; at least {MIN_FRAMES} make a video"
        return asdict(info) | {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_file(path)}
    except BrokenVideo as error:
        return error.reason
    except FileNotFoundError:
        return "missing"
    except PermissionError:
        return "not readable: permission denied"


def _refuse_broken(config: DatasetConfig, root: Path, listing: Listing, excluded: list[dict[str, str]]) -> None:
    share = len(excluded) / len(listing.entries)
    if share > config.max_broken_share or len(excluded) == len(listing.entries):
        named = "\n".join(f"  {entry['path']}: {entry['reason']}" for entry in excluded[:_NAMED])
        more = f"\n  ... and {len(excluded) - _NAMED} more" if len(excluded) > _NAMED else ""
        raise ConfigError(
            f"dataset {config.name}: {len(excluded)} of {len(listing.entries)} files in {root} cannot be used "
            f"({share:.0%}, accepted: {config.max_broken_share:.0%}):\n{named}{more}\n"
            "mend or remove them, or raise data.dataset.max_broken_share"
        )


def _refuse_leaks(rows: list[dict[str, Any]]) -> None:
    by_content: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_content[row["sha256"]].append(row)
    for same in by_content.values():
        other = next((row for row in same if row["split"] != same[0]["split"]), None)
        if other is not None:
            raise ConfigError(
                f"{same[0]['path']} ({same[0]['split']}) and {other['path']} ({other['split']}) have the same content: "
                "a test on videos that were trained on means nothing; remove one of them"
            )


def _report(
    config: DatasetConfig, listing: Listing, rows: list[dict[str, Any]], excluded: list[dict[str, str]], say: Say
) -> None:
    say(f"dataset {config.name}: {len(rows)} videos, layout {listing.layout}")
    for split in sorted({row["split"] for row in rows}):
        counts = Counter(listing.classes[row["label"]] for row in rows if row["split"] == split)
        say(f"  {split}: {counts.total()} videos; " + ", ".join(f"{name} {counts[name]}" for name in listing.classes))
    for entry in excluded[:_NAMED]:
        say(f"  excluded: {entry['path']}: {entry['reason']}")
    if excluded:
        say(f"  excluded: {len(excluded)} of {len(listing.entries)} files")
    if listing.ignored:
        say(f"  ignored: {len(listing.ignored)} files that are no videos by their suffix, e.g. {listing.ignored[0]}")


def _write(
    config: DatasetConfig,
    folder: Path,
    root: Path,
    listing: Listing,
    rows: list[dict[str, Any]],
    excluded: list[dict[str, str]],
) -> dict[str, Any]:
    identity = sorted([row["path"], row["size"], row["label"], row["split"], row["sha256"]] for row in rows)
    record = {
        "digest": sha256_text(canonical_json(identity)),
        "name": config.name,
        "root": str(root),
        "classes": list(listing.classes),
        "splits": dict(Counter(row["split"] for row in rows)),
        "excluded": excluded,
        "prepared_at_ms": time.time_ns() // 1_000_000,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "source.json").unlink(missing_ok=True)  # never beside a manifest that it does not describe
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_atomic(folder / "manifest.parquet", lambda stream: table.to_parquet(stream, index=False))
    write_json(folder / "source.json", record)
    return record


def main(arguments: list[str]) -> int:
    """Prepare a dataset from the command line.

    Exit codes: 0 prepared, 2 dataset, config or disk cannot be used, 75 stopped by Ctrl-C with nothing half-made.
    """
    try:
        if len(arguments) != 2:
            raise ConfigError("usage: python -m vssl.data.prepare '<DatasetConfig as JSON>' <sources folder>")
        prepare(
            build(DatasetConfig, json.loads(arguments[0])), Path(arguments[1]), lambda text: print(text, flush=True)
        )
    except (ConfigError, json.JSONDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}; free space, or mend what stands in the way of reading and writing", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 75
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
