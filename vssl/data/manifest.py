"""The tables of a dataset and of a tree of optical flow: which videos there are, where, and how long."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from vssl.artifacts import Artifact, read_json
from vssl.config import nearest
from vssl.run import StageError

COLUMNS = (
    "video_id", "path", "label", "split", "group", "frames", "fps", "width", "height",
    "duration_s", "size", "mtime_ns", "sha256", "seekable",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Source:
    """A prepared dataset."""

    digest: str
    name: str
    root: Path  # folder of the videos
    classes: tuple[str, ...]
    videos: pd.DataFrame  # columns COLUMNS, sorted by video_id
    frame_classes: tuple[str, ...] = ()  # of labels of frames, where there are any: see vssl.data.label_runs


def load_source(folder: Path) -> Source:
    """Read what `prepare` left in a folder under `sources/`.

    Raises:
        StageError: the dataset was not prepared there.
    """
    record = read_json(folder / "source.json")
    if record is None:
        raise StageError(
            f"{folder} holds no source.json: the dataset is not prepared; run the same line with `vssl prepare`"
        )
    videos = pd.read_parquet(folder / "manifest.parquet")
    return Source(
        digest=record["digest"],
        name=record["name"],
        root=folder / record["root"],  # absolute, but for a dataset that a stage made: there the videos lie beside it
        classes=tuple(record["classes"]),
        videos=videos if "group" in videos else videos.assign(group=""),  # earlier versions knew no recordings
        frame_classes=tuple(record.get("frame_classes", ())),
    )


def in_split(source: Source, split: str) -> pd.DataFrame:
    """Rows of one split, in manifest order.

    Raises:
        StageError: no video is in it.
    """
    rows = source.videos[source.videos["split"] == split]
    if rows.empty:
        accepted = sorted(source.videos["split"].unique())
        raise StageError(
            f"dataset {source.name} has no split `{split}`{nearest(split, accepted)}; it has: {', '.join(accepted)}"
        )
    return rows.reset_index(drop=True)


def with_motion(videos: pd.DataFrame, motion: Artifact) -> pd.DataFrame:
    """Join the flow of each video: columns flow_path (relative to the tree) and flow_frames.

    Videos of which no flow exists (too short for any) are left out.

    Raises:
        StageError: the flow was made from other videos.
    """
    flow = pd.read_parquet(motion.path / "manifest.parquet")[["video_id", "path", "frames"]]
    joined = videos.merge(
        flow.rename(columns={"path": "flow_path", "frames": "flow_frames"}), on="video_id", how="inner"
    )
    if len(joined) < len(videos) - (videos["frames"] < 2).sum():
        missing = sorted(set(videos["video_id"]) - set(joined["video_id"]))
        raise StageError(
            f"{len(missing)} videos have no optical flow in {motion.origin}, the first is {missing[0]}: "
            "it was made from another dataset; redo it with force="
        )
    return joined


def long_enough(videos: pd.DataFrame, lengths: Sequence[str], keeps: Callable[[int], bool], what: str) -> pd.DataFrame:
    """Videos from which a clip can be taken, with the column `total`: the shortest of the given columns of lengths.

    Raises:
        StageError: none is long enough.
    """
    total = videos[list(lengths)].min(axis=1).astype(int)
    kept = videos.assign(total=total)[[keeps(length) for length in total]]
    if kept.empty:
        raise StageError(
            f"no video is long enough for {what}: the longest has {total.max()} frames; set a smaller data.num_frames, "
            "or data.sampling.name=segments, which takes clips from any video, and from images"
        )
    return kept.reset_index(drop=True)


def check_unchanged(path: Path, size: int, mtime_ns: int) -> None:
    """
    Args:
        path: of a video.
        size, mtime_ns: as in the manifest; 0 for the time of a file that a stage wrote: its digest stands for it.

    Raises:
        StageError: the file is not the one that `prepare` saw.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise StageError(f"data changed since prepare: {path} is gone; prepare the dataset again") from None
    if (status.st_size, status.st_mtime_ns if mtime_ns else 0) != (size, mtime_ns):
        raise StageError(
            f"data changed since prepare: {path} has another size or time than in the manifest; prepare the dataset "
            "again (equal content keeps every result, new content makes new stages)"
        )
