"""A dataset's videos in shares of about equal work, and the whole put together from what was made of each share."""

import heapq
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from vssl.artifacts import Artifact
from vssl.data.whole_files import linked


def share_of(videos: pd.DataFrame, number: int, of: int) -> pd.DataFrame:
    """The rows of share `number` of `of`, in manifest order: a function of the manifest alone.

    The longest video goes first, each to the share that has least so far, in pixels over all frames.
    """
    if of == 1:
        return videos
    work = videos["frames"] * videos["width"] * videos["height"]
    order = videos.assign(work=work).sort_values(["work", "video_id"], ascending=[False, True])
    loads = [(0, share) for share in range(1, of + 1)]
    shares: dict[str, int] = {}
    for video, pixels in zip(order["video_id"], order["work"]):
        load, share = loads[0]
        heapq.heapreplace(loads, (load + int(pixels), share))
        shares[video] = share
    return videos[videos["video_id"].map(shares) == number]


def take_parts(parts: Iterable[Artifact], wanted: Iterable[str], tree: Path) -> int:
    """Name the files of the parts in the whole, too, as far as they are wanted; how many there are."""
    names = set(wanted)
    before = len(names)
    for part in parts:
        paths = pd.read_parquet(part.path / "manifest.parquet", columns=["path"])["path"]
        for path in paths:
            if path in names:
                linked(part.path / path, tree / path)
                names.discard(path)
    return before - len(names)
