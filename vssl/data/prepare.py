"""Turns a folder of videos into a source artifact: every file decoded once, broken ones named, content digested.

python -m vssl.data.prepare '<DatasetConfig as JSON>' <sources folder>

A run that was killed goes on where it stopped, and several at once on one folder do not disturb one another.
"""

import fcntl
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from vssl.artifacts import canonical_json, read_json, sha256_text, write_atomic, write_json, write_text
from vssl.config import ConfigError, build
from vssl.data.dataset_config import DatasetConfig, PhasesConfig
from vssl.data.label_runs import FILE as FRAMES_FILE
from vssl.data.label_runs import LabelsDoNotFit, Run, runs_of, runs_table
from vssl.data.layouts.layout import find_videos
from vssl.data.listing import Entry, Excluded, Listing
from vssl.data.manifest import COLUMNS
from vssl.data.preparing.census import census, tell
from vssl.data.preparing.examine import FOUND, examine_all
from vssl.data.preparing.leaks import find_leaks
from vssl.data.preparing.probes import VERSION, Found, open_probes, probes_folder
from vssl.data.preparing.refusals import TooMany, refuse_broken, refuse_leaks
from vssl.data.preparing.trims import cut

Say = Callable[[str], None]


def prepare(config: DatasetConfig, sources: Path, say: Say) -> dict[str, Any]:
    """Make `<sources>/<key>/`: manifest.parquet, report.json, then source.json, whose presence means "prepared".

    Labels of frames, where a dataset has them, lie beside the manifest in frames.parquet. Files that did not change
    since any earlier run are not read again, whether that run ended well or not.

    Args:
        config: the dataset.
        sources: folder of all sources.
        say: takes lines for the person who watches.

    Returns:
        The content of source.json: digest, name, root, classes, splits, excluded, prepared_at_ms.

    Raises:
        ConfigError: no usable videos, an unreadable list, too many broken or missing files, or two splits that share
            content or recordings.
    """
    folder = sources / config.key()
    root = dataset_root(config, sources)
    if isinstance(config.generated, PhasesConfig):
        from vssl.data.generated.phases import generate_phases

        generate_phases(config.generated, root, say)
    elif config.generated is not None:
        from vssl.data.generated.motions import generate

        generate(config.generated, root, say)
    elif config.generated_images is not None:
        from vssl.data.generated.images import generate_images

        generate_images(config.generated_images, root, say)
    earlier = read_json(folder / "source.json")
    listing = find_videos(config, root, earlier=_layout(earlier))
    previous = _previous(folder) if earlier and earlier.get("probes") == VERSION else {}
    files = root
    with open_probes(probes_folder(sources, root)) as probes:
        failed: Mapping[str, Found] = {}
        if any(entry.trim for entry in listing.entries):
            files = (sources.parent / "trimmed" / config.key()).absolute()
            failed = cut(listing.entries, root, files, probes, say)
        paths = [entry.path for entry in listing.entries if entry.path not in failed]
        found = {**failed, **examine_all(paths, files, probes, previous, say)}
    rows, runs, excluded = _sort_out(listing, found)
    try:
        refuse_broken(config, root, listing, excluded)
        refused, accepted = find_leaks(rows, config.known_leaks)
        refuse_leaks(config, refused)
    except TooMany as error:
        where = probes_folder(sources, root).with_suffix(".txt")
        write_text(where, "".join(f"{line}\n" for line in error.lines))
        raise ConfigError(error.naming(where)) from None
    report = census(listing, rows, excluded, accepted, _count_frames(runs))
    tell(config.name, report, excluded, say)
    return _write(config, folder, files, listing, rows, runs, excluded, report)


def changed(config: DatasetConfig, sources: Path) -> list[str]:
    """What differs between a prepared dataset and its folder now, by name, size and time; empty if nothing does."""
    folder = sources / config.key()
    record = read_json(folder / "source.json")
    if record is None:
        return ["not prepared"]
    root = dataset_root(config, sources)
    listing = find_videos(config, root, earlier=_layout(record))
    listed = {entry.path: (entry.label, entry.split) for entry in listing.entries}
    known = _previous(folder)
    excluded = {one["path"] for one in record["excluded"]}
    files = Path(record["root"])  # another one than `root` where videos were cut from longer ones
    found = []
    for path, row in known.items():
        if path not in listed:
            found.append(f"{path} is gone")
        elif not _same_file(files / path, row):
            found.append(f"{path} has another size or time")
        elif listed[path] != (row["label"], row["split"]):
            found.append(f"{path} has another label or split")
    missing = {one["path"] for one in record["excluded"] if one["reason"].partition(" (")[0].endswith("missing")}
    for entry in listing.entries:
        if entry.path in missing and (root / entry.trim.video if entry.trim else files / entry.path).exists():
            found.append(f"{entry.path} is there now")
    return found + [f"{path} is new" for path in listed if path not in known and path not in excluded]


def dataset_root(config: DatasetConfig, sources: Path) -> Path:
    """Absolute folder of a dataset's videos. Generated ones lie beside the sources, named by their config.

    Raises:
        ConfigError: the config names no folder and generates nothing.
    """
    if config.generated is not None or config.generated_images is not None:
        return (sources.parent / "generated" / config.key()).absolute()
    if config.path is None:
        raise ConfigError(
            f"dataset {config.name} has neither `path` nor `generated`; set data.dataset.path to a folder"
        )
    return Path(config.path).expanduser().absolute()


def _layout(record: Mapping[str, Any] | None) -> str | None:
    """The layout that a dataset was prepared by; "" by a version that did not say, None where it was not prepared."""
    return None if record is None else str(record.get("layout", ""))


def _previous(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        table = pd.read_parquet(folder / "manifest.parquet")
    except FileNotFoundError:
        return {}
    records: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    return {row["path"]: row for row in records} if {*FOUND, "label", "split"} <= set(table.columns) else {}


def _same_file(path: Path, row: Mapping[str, Any]) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return (status.st_size, status.st_mtime_ns) == (row["size"], row["mtime_ns"])


def _sort_out(
    listing: Listing, found: Mapping[str, Found]
) -> tuple[list[dict[str, Any]], dict[str, tuple[Run, ...]], list[Excluded]]:
    """(manifest rows by id, runs of frame labels by path, what is excluded by path), each sorted."""
    rows: list[dict[str, Any]] = []
    runs: dict[str, tuple[Run, ...]] = {}
    excluded = list(listing.excluded)
    for entry in sorted(listing.entries, key=lambda entry: entry.video_id):
        of_file = found[entry.path]
        if "reason" in of_file:
            excluded.append(Excluded(entry.path, of_file["reason"], of_file["kind"], entry.where))
            continue
        if entry.frame_labels is not None:
            try:
                runs[entry.path] = runs_of(entry.frame_labels(of_file["frames"], of_file["fps"]))
            except LabelsDoNotFit as error:
                excluded.append(Excluded(entry.path, str(error), "frame labels", entry.where))
                continue
        rows.append(_named(entry) | of_file)
    return rows, runs, sorted(excluded, key=lambda one: one.path)


def _named(entry: Entry) -> dict[str, Any]:
    names = {"video_id": entry.video_id, "path": entry.path, "label": entry.label, "split": entry.split}
    return names | {"group": entry.group}


def _count_frames(runs: Mapping[str, tuple[Run, ...]]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for of_video in runs.values():
        for start, stop, label in of_video:
            counts[label] += stop - start
    return counts


def _write(
    config: DatasetConfig,
    folder: Path,
    root: Path,
    listing: Listing,
    rows: list[dict[str, Any]],
    runs: Mapping[str, tuple[Run, ...]],
    excluded: list[Excluded],
    report: Mapping[str, Any],
) -> dict[str, Any]:
    record = {
        "digest": _digest(rows, runs),
        "name": config.name,
        "root": str(root),
        "layout": listing.layout,
        "probes": VERSION,
        "classes": list(listing.classes),
        "splits": dict(Counter(row["split"] for row in rows)),
        "excluded": [{"path": one.path, "reason": one.why} for one in excluded],
        "prepared_at_ms": time.time_ns() // 1_000_000,
    }
    if runs:
        last = max(label for of_video in runs.values() for _, _, label in of_video)
        names = listing.frame_classes
        record["frame_classes"] = [names[n] if n < len(names) else str(n) for n in range(max(last + 1, len(names)))]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        (folder / "source.json").unlink(missing_ok=True)  # never beside a manifest that it does not describe
        write_atomic(folder / "manifest.parquet", lambda stream: table.to_parquet(stream, index=False))
        if runs:
            of_ids = {row["video_id"]: runs[row["path"]] for row in rows}
            write_atomic(folder / FRAMES_FILE, lambda stream: runs_table(of_ids).to_parquet(stream, index=False))
        write_json(folder / "report.json", report)
        write_json(folder / "source.json", record)
    return record


def _digest(rows: list[dict[str, Any]], runs: Mapping[str, tuple[Run, ...]]) -> str:
    """Of a dataset's content, wherever it lies: paths, sizes, labels, splits, bytes, and labels of frames if any."""
    identity = []
    for row in rows:
        of_video = [row["path"], row["size"], row["label"], row["split"], row["sha256"]]
        if row["path"] in runs:
            of_video.append(sha256_text(canonical_json(runs[row["path"]])))
        identity.append(of_video)
    return sha256_text(canonical_json(sorted(identity)))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While no other process writes there; where a file system has no locks, the last one that writes wins."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
