"""Kind `flow`: one optical flow video per video, without loss, read afterwards like any other video."""

import os
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd

from vssl.artifacts import Inputs, sync, write_atomic
from vssl.data.decode import BrokenVideo, all_frames, write_video
from vssl.data.flow import estimator, flow_pictures
from vssl.data.manifest import check_unchanged, load_source
from vssl.data.processes import in_processes
from vssl.progress import track
from vssl.run import Run, StageError, Stopped
from vssl.stages.flow_config import FlowConfig


def run(config: FlowConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Flow of all videos of a dataset: artifact `flow`, a tree of manifest.parquet and videos/<video id>.mkv.

    Whole files from an earlier attempt are kept. The manifest comes last.

    Raises:
        Stopped: asked to stop; what is finished stays.
        StageError: OpenCV is missing, or a video changed or broke since `prepare`.
    """
    estimator(config.algorithm)  # fails here, once, where OpenCV is missing
    source = load_source(inputs["dataset"][0].path)
    tree = run.artifact("flow")
    for leftover in tree.rglob("*.tmp"):
        leftover.unlink()
    videos = source.videos[source.videos["frames"] >= 2]
    make = partial(_make, config.algorithm, config.bound, source.root, tree)
    started, rows = perf_counter(), []
    made = in_processes(make, videos.to_dict("records"), config.runtime.workers)
    for row in track(made, len(videos), "optical flow", run.say):
        rows.append(row)
        run.beat(len(rows), len(videos))
        if run.should_stop():
            made.close()
            raise Stopped(f"optical flow of {len(rows)} of {len(videos)} videos is done and kept")
    run.check_ownership()
    table = pd.DataFrame(rows, columns=["video_id", "path", "frames", "width", "height"]).sort_values("video_id")
    write_atomic(tree / "manifest.parquet", lambda stream: table.to_parquet(stream, index=False))
    return {
        "videos": float(len(rows)),
        "frames": float(table["frames"].sum()),
        "excluded_short": float(len(source.videos) - len(videos)),
        "seconds": perf_counter() - started,
    }


def _make(algorithm: str, bound: float, root: Path, tree: Path, video: Mapping[Any, Any]) -> dict[str, Any]:
    """Write the flow of one video unless it is there; its row of the manifest."""
    name = f"videos/{video['video_id']}.mkv"
    path = tree / name
    if not path.exists():
        check_unchanged(root / video["path"], video["size"], video["mtime_ns"])
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            pictures = flow_pictures(all_frames(root / video["path"]), estimator(algorithm), bound)
            write_video(aside, pictures, codec="ffv1", fps=video["fps"] or 25.0, container="matroska")
            with open(aside, "rb") as written:
                os.fsync(written.fileno())
            os.replace(aside, path)
        except BrokenVideo as error:
            raise StageError(f"{error}; it decoded when the dataset was prepared: prepare it again") from None
        finally:
            aside.unlink(missing_ok=True)
        sync(path.parent)
    return {
        "video_id": video["video_id"],
        "path": name,
        "frames": video["frames"] - 1,
        "width": video["width"],
        "height": video["height"],
    }
