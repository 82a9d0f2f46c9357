"""What an alignment's plots show: two test videos, played so that the same happens at the same time. Rank 0 only."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.distance import cdist

from vssl.data.clips import ClipDataset
from vssl.data.decode import Frames, write_video
from vssl.data.views.augment import resize, to_planes
from vssl.evals.dtw import align
from vssl.plots_alignment import side_by_side, similarity_matrix, trajectories
from vssl.run import Run
from vssl.stages.frame_embeddings import EmbeddedVideo
from vssl.stages.report import picture

SHOWN_FRAMES, SHOWN_VIDEOS = 240, 4
_HEIGHT, _FPS = 128, 12.0
_TEMPERATURE = 0.1  # of the similarities in the picture


def draw_alignment(run: Run, dataset: ClipDataset, videos: Sequence[EmbeddedVideo], *, seed: int) -> None:
    """`alignment.mp4`, `similarity.png` and `trajectories.png`; nothing of fewer than two videos.

    The video plays the first one as it is, and beside it the second by dynamic time warping, by its nearest frames, and
    as it was filmed. A strip under each has the colour of the phase: where all is well, neighbours have one colour.
    """
    if len(videos) < 2:
        return
    query, key = videos[:2]
    warp = align(query.embeddings, key.embeddings)

    def film(path: Path) -> None:
        shown = np.unique(np.linspace(0, len(query.labels) - 1, SHOWN_FRAMES).round().astype(np.int64))
        beside = (warp, align(query.embeddings, key.embeddings, warp=False), as_filmed(query, key))
        columns = [(_frames(dataset, query, shown), query.labels[shown])]
        columns += [(_frames(dataset, key, frames[shown]), key.labels[frames[shown]]) for frames in beside]
        width = max(frames.shape[2] for frames, _ in columns)
        pictures = side_by_side([(_padded(frames, width), phases) for frames, phases in columns])
        aside = path.with_name(f".{path.name}.tmp")
        write_video(aside, pictures, codec="libx264", fps=_FPS, options={"crf": "20"}, container="mp4")
        aside.replace(path)

    def matrix(path: Path) -> None:
        exponent = -cdist(query.embeddings, key.embeddings, "sqeuclidean") / _TEMPERATURE
        similarity = torch.from_numpy(exponent).softmax(dim=1).numpy()
        similarity_matrix(similarity, path, warp=warp, query_phases=query.labels, key_phases=key.labels)

    picture(run, "alignment.mp4", film)
    picture(run, "similarity.png", matrix)
    shown = [video.embeddings for video in videos[:SHOWN_VIDEOS]]
    picture(run, "trajectories.png", lambda path: trajectories(shown, path, seed=seed))


def as_filmed(query: EmbeddedVideo, key: EmbeddedVideo) -> np.ndarray:
    """(N,) the frame of the same number, the last one where there is none: what no alignment does."""
    return np.arange(len(query.labels)).clip(max=len(key.labels) - 1)


def _frames(dataset: ClipDataset, video: EmbeddedVideo, wanted: np.ndarray) -> Frames:
    """(n, _HEIGHT, W, 3), in the order asked for."""
    planes = to_planes(torch.from_numpy(dataset.frames(video.index, wanted.tolist())))
    height, width = planes.shape[-2:]
    scaled = resize(planes, _HEIGHT, max(2, round(width * _HEIGHT / height)), "bilinear")
    found: Frames = scaled.permute(0, 2, 3, 1).numpy()
    return found


def _padded(frames: Frames, width: int) -> Frames:
    """As wide as the widest, the rest black."""
    found: Frames = np.pad(frames, ((0, 0), (0, 0), (0, width - frames.shape[2]), (0, 0)))
    return found
