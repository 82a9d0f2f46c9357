"""Kind `transcode`: the videos of a dataset, quick to read, as a dataset that stands for it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd

from vssl.artifacts import Inputs, canonical_json, sha256_file, sha256_text, write_atomic, write_json
from vssl.data.decode import BrokenVideo, inspect
from vssl.data.label_runs import FILE as FRAMES_FILE
from vssl.data.manifest import Source, check_unchanged, load_source
from vssl.data.preparing.isolation import Lost
from vssl.data.preparing.probes import Probes, open_probes
from vssl.data.shards import share_of, take_parts
from vssl.data.space import Estimate
from vssl.data.transcode import Target, transcode
from vssl.data.whole_files import clear_leftovers, linked, made_whole
from vssl.run import Run, StageError
from vssl.stages.many_videos import over_videos
from vssl.stages.transcode_config import TranscodeConfig

_BITS, _AT_QUALITY, _HALVES = 0.3, 18, 6  # bits a pixel at that quality, and by how much more of it they halve
_SECONDS, _SECONDS_A_PIXEL = 600.0, 2e-6  # for a video; one core takes a fiftieth of it
_MEMORY_GB = 8.0

Video = Mapping[Any, Any]  # a row of the manifest
Made = Mapping[str, Any]  # what its row has anew: width, height, size, seekable, sha256


def run(config: TranscodeConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """All videos of a dataset, or a share of them: artifact `videos`, a tree that a stage reads as its dataset.

    It has the ids, labels and splits of the original, so that the same clips are drawn from both. Whole files from an
    earlier attempt are kept, and those of the parts are taken. Originals that do not decode, or to another number of
    frames than they had, are left out by name. The manifest comes last.

    Raises:
        Stopped: asked to stop; what is finished stays.
        StageError: the disk is too small, too many originals are broken, or one changed since `prepare`.
    """
    source = load_source(inputs["dataset"][0].path)
    videos = share_of(source.videos, *config.share)
    tree = run.artifact("videos")
    tree.mkdir(exist_ok=True)
    clear_leftovers(tree)
    names = {video: _name(video) for video in videos["video_id"]}
    parts = inputs.get("parts", ())
    taken = take_parts(parts, names.values(), tree)
    if taken:
        run.say(f"{taken} of {len(names)} videos are taken from parts")
    started = perf_counter()
    broken: dict[str, str] = {}
    lost: dict[str, str] = {}
    with open_probes(run.folder.checkpoints / "made") as journal:
        made = _known(names, tree, parts, journal)
        rows: Sequence[Video] = videos.to_dict("records")
        missing = [video for video in rows if video["video_id"] not in made]
        target = Target(
            short_side=config.short_side,
            keyframe_interval=config.keyframe_interval,
            quality=config.quality,
            preset=config.preset,
        )
        bits = _BITS * 2 ** ((_AT_QUALITY - config.quality) / _HALVES)
        to_write = [video for video in missing if not (tree / names[video["video_id"]]).exists()]
        space = Estimate(tree, sum(_pixels(video, target) for video in to_write), bits, run.say)
        space.begin()
        for video, answer in over_videos(
            partial(_make, target, source.root, tree),
            missing,
            run,
            what="transcoding",
            workers=config.runtime.workers,
            seconds=lambda video: _SECONDS + _SECONDS_A_PIXEL * video["frames"] * video["width"] * video["height"],
            memory_gb=_MEMORY_GB,
        ):
            name = video["video_id"]
            if isinstance(answer, Lost | str):
                reason, where = (answer.reason, lost) if isinstance(answer, Lost) else (answer, broken)
                where[name] = reason
                run.say(f"{name}: {reason}")
                continue
            made[name] = answer
            _keep(journal, names[name], tree, answer)
            space.wrote(answer["size"], _pixels(video, target))
    _refuse_lost(lost)
    _refuse_broken(broken, len(videos), config.data.dataset.max_broken_share)
    run.check_ownership()
    table = _table(videos, names, made)
    _write(tree, source, inputs["dataset"][0].path, table, broken)
    return {
        "videos": float(len(table)),
        "frames": float(table["frames"].sum()),
        "unusable": float(len(broken)),
        "megabytes": float(table["size"].sum()) / 1e6,
        "of_megabytes": float(videos["size"].sum()) / 1e6,
        "seconds": perf_counter() - started,
    }


def _name(video_id: str) -> str:
    return f"videos/{video_id}.mp4"


def _pixels(video: Video, target: Target) -> int:
    """Of all frames that are made of a video."""
    height, width = target.size(video["height"], video["width"])
    return int(video["frames"] * height * width)


def _make(target: Target, root: Path, tree: Path, video: Video) -> Made | str:
    """Write one video, unless it is there, and read it to its end; what its row has anew, or why there is none."""
    path = tree / _name(video["video_id"])
    try:
        if path.exists():
            return _verified(path, video)
        check_unchanged(root / video["path"], video["size"], video["mtime_ns"])
        with made_whole(path) as aside:
            count = transcode(root / video["path"], aside, target, video["fps"] or 25.0)
            if count != video["frames"]:
                raise BrokenVideo(root / video["path"], f"{count} of {video['frames']} frames decode")
            return _verified(aside, video)
    except BrokenVideo as error:
        return error.reason


def _verified(path: Path, video: Video) -> Made:
    """What a full decode finds.

    Raises:
        BrokenVideo: not the frames of the original.
    """
    found = inspect(path)
    if found.frames != video["frames"]:
        raise BrokenVideo(path, f"{video['frames']} frames became {found.frames}")
    size = {"width": found.width, "height": found.height, "size": path.stat().st_size}
    return {**size, "seekable": found.seekable, "sha256": sha256_file(path)}


def _known(names: Mapping[str, str], tree: Path, parts: Sequence[Any], journal: Probes) -> dict[str, Made]:
    """Video id -> what its row has anew, of files that are there and were verified when they were made."""
    of_parts: dict[str, Made] = {}
    for part in parts:
        columns = ["path", "width", "height", "size", "seekable", "sha256"]
        for row in pd.read_parquet(part.path / "manifest.parquet", columns=columns).to_dict("records"):
            of_parts[row.pop("path")] = row  # type: ignore[assignment]
    known = {}
    for video, name in names.items():
        try:
            status = (tree / name).stat()
        except FileNotFoundError:
            continue
        found = of_parts.get(name) or journal.find(name, status.st_size, status.st_mtime_ns)
        if found is not None and found["size"] == status.st_size:
            known[video] = found
    return known


def _keep(journal: Probes, name: str, tree: Path, made: Made) -> None:
    status = (tree / name).stat()
    if status.st_size == made["size"]:
        journal.keep(name, status.st_size, status.st_mtime_ns, dict(made))


def _refuse_lost(lost: Mapping[str, str]) -> None:
    """A video whose process ended is no broken one: on another machine, or another day, it may work."""
    if lost:
        first, reason = next(iter(lost.items()))
        raise StageError(
            f"{len(lost)} videos could not be transcoded, the first is {first}: {reason}; all others are done and "
            "kept, and the same line tries those again"
        )


def _refuse_broken(broken: Mapping[str, str], of: int, share: float) -> None:
    if len(broken) > share * of:
        first, reason = next(iter(broken.items()))
        raise StageError(
            f"{len(broken)} of {of} videos do not decode as they did when the dataset was prepared, the first is "
            f"{first}: {reason}; prepare it again, or allow more by data.dataset.max_broken_share ({share:g})"
        )


def _table(videos: pd.DataFrame, names: Mapping[str, str], made: Mapping[str, Made]) -> pd.DataFrame:
    """The manifest: rows of the original, with the files that stand for them."""
    kept = videos[videos["video_id"].isin(made.keys())]
    ids = kept["video_id"]
    anew = {key: [made[video][key] for video in ids] for key in ("width", "height", "size", "seekable", "sha256")}
    return kept.assign(path=[names[video] for video in ids], mtime_ns=0, **anew).sort_values("video_id")


def _write(tree: Path, source: Source, folder: Path, table: pd.DataFrame, broken: Mapping[str, str]) -> None:
    if (folder / FRAMES_FILE).is_file():
        linked(folder / FRAMES_FILE, tree / FRAMES_FILE)
    write_atomic(tree / "manifest.parquet", lambda stream: table.to_parquet(stream, index=False))
    rows = table[["path", "size", "label", "split", "sha256"]].values.tolist()
    record = {
        "digest": sha256_text(canonical_json(sorted(rows))),
        "name": source.name,
        "root": ".",
        "classes": list(source.classes),
        "splits": dict(Counter(table["split"])),
        "excluded": [{"path": video, "reason": reason} for video, reason in sorted(broken.items())],
    }
    if source.frame_classes:
        record["frame_classes"] = list(source.frame_classes)
    write_json(tree / "source.json", record)
