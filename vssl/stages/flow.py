"""Kind `flow`: one optical flow video per video, read afterwards like any other video."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from vssl.artifacts import Inputs, one, write_atomic
from vssl.data.decode import BrokenVideo, all_frames
from vssl.data.flow import ENCODINGS, check_estimator, estimator, flow_pictures, write_flow
from vssl.data.manifest import check_unchanged, load_source
from vssl.data.preparing.isolation import Lost
from vssl.data.shards import share_of, take_parts
from vssl.data.space import Estimate
from vssl.data.whole_files import clear_leftovers, made_whole
from vssl.run import Run, StageError
from vssl.stages.flow_config import FlowConfig
from vssl.stages.many_videos import over_videos

_SECONDS, _SECONDS_A_PIXEL = 600.0, 5e-4  # for a video; TV-L1 takes a fiftieth of it
_MEMORY_GB = 8.0
_NO_LIMIT_GB = 2**20  # a GPU's driver claims more addresses than there is memory

Video = Mapping[Any, Any]  # a row of the manifest


def run(config: FlowConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Flow of all videos of a dataset, or of a share: artifact `flow`, a tree of manifest.parquet and videos/*.mkv.

    Whole files from an earlier attempt are kept, and those of the parts are taken. The manifest comes last.

    Raises:
        Stopped: asked to stop; what is finished stays.
        StageError: OpenCV or weights are missing, the disk is too small, or a video changed or broke since `prepare`.
    """
    weights = one(inputs, "weights")
    network = None if weights is None else weights.path
    check_estimator(config.algorithm, network)
    source = load_source(inputs["dataset"][0].path)
    long = source.videos[source.videos["frames"] >= 2]
    videos = share_of(long, *config.share)
    tree = run.artifact("flow")
    tree.mkdir(exist_ok=True)
    clear_leftovers(tree)
    names = [_name(video) for video in videos["video_id"]]
    taken = take_parts(inputs.get("parts", ()), names, tree)
    if taken:
        run.say(f"the flow of {taken} of {len(names)} videos is taken from parts")
    rows: Sequence[Video] = videos.to_dict("records")
    missing = [video for video, name in zip(rows, names) if not (tree / name).exists()]
    space = Estimate(tree, sum(map(_pixels, missing)), ENCODINGS[config.encoding].bits, run.say)
    space.begin()
    started, broken = perf_counter(), {}
    for video, answer in over_videos(
        partial(_make, config, network, source.root, tree),
        missing,
        run,
        what="optical flow",
        workers=config.runtime.workers,
        seconds=lambda video: _SECONDS + _SECONDS_A_PIXEL * _pixels(video),
        memory_gb=_NO_LIMIT_GB if network else _MEMORY_GB,
    ):
        if reason := answer.reason if isinstance(answer, Lost) else answer:
            broken[video["video_id"]] = reason
            run.say(f"{video['video_id']}: {reason}")
        else:
            space.wrote((tree / _name(video["video_id"])).stat().st_size, _pixels(video))
    if broken:
        first, reason = next(iter(broken.items()))
        raise StageError(
            f"{len(broken)} of {len(videos)} videos have no optical flow, the first is {first}: {reason}; they decoded "
            "when the dataset was prepared: prepare it again. The flow of all others is kept"
        )
    run.check_ownership()
    table = videos[["video_id"]].assign(
        path=names, frames=videos["frames"] - 1, width=videos["width"], height=videos["height"]
    )
    table = table.sort_values("video_id")
    write_atomic(tree / "manifest.parquet", lambda stream: table.to_parquet(stream, index=False))
    return {
        "videos": float(len(table)),
        "frames": float(table["frames"].sum()),
        "excluded_short": float(len(source.videos) - len(long)),
        "seconds": perf_counter() - started,
    }


def _name(video_id: str) -> str:
    return f"videos/{video_id}.mkv"


def _pixels(video: Video) -> int:
    """Of all pictures of a video's flow."""
    return int((video["frames"] - 1) * video["width"] * video["height"])


def _make(config: FlowConfig, weights: Path | None, root: Path, tree: Path, video: Video) -> str:
    """Write the flow of one video; why there is none, or ""."""
    check_unchanged(root / video["path"], video["size"], video["mtime_ns"])
    try:
        with made_whole(tree / _name(video["video_id"])) as aside:
            frames = all_frames(root / video["path"])
            pictures = flow_pictures(frames, estimator(config.algorithm, weights), config.bound)
            count = write_flow(aside, pictures, config.encoding, video["fps"] or 25.0)
            if count != video["frames"] - 1:
                raise BrokenVideo(root / video["path"], f"{count + 1} of {video['frames']} frames decode")
    except BrokenVideo as error:
        return error.reason
    return ""
