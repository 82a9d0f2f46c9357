"""Pictures of two videos laid over one another, and of the ways that videos take through the space of embeddings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vssl.plots import INK, QUIET, empty_figure, save
from vssl.plots_retrieval import neighbourhood_plane, principal_plane

PHASES = (
    (31, 111, 178), (217, 95, 2), (42, 157, 92), (194, 41, 127), (123, 92, 196), (181, 137, 0), (23, 162, 184),
)  # fmt: skip
MAX_FRAMES = 1000  # of which t-SNE takes some ten seconds
_STRIP = 6  # pixels at the bottom of a frame that show its phase
_GAP = 4

Frames = NDArray[np.uint8]  # (T, H, W, 3)


def side_by_side(columns: Sequence[tuple[Frames, NDArray[np.int64]]]) -> Frames:
    """(T, H, W', 3): videos beside one another, with a strip under each frame in the colour of its phase.

    Args:
        columns: frames, all of one size, and phases, (T,) with -1 for none.
    """
    shown = []
    for frames, phases in columns:
        colours = np.array([PHASES[phase % len(PHASES)] if phase >= 0 else (0, 0, 0) for phase in phases.tolist()])
        strip = np.broadcast_to(colours[:, None, None], (len(frames), _STRIP, frames.shape[2], 3))
        shown += [np.concatenate([frames, strip.astype(np.uint8)], axis=1)]
    gap = np.full((len(shown[0]), shown[0].shape[1], _GAP, 3), 255, dtype=np.uint8)
    pieces = [piece for one in shown for piece in (one, gap)][:-1]
    joined = np.concatenate(pieces, axis=2)
    even: Frames = joined[:, : joined.shape[1] // 2 * 2, : joined.shape[2] // 2 * 2]
    return even


def similarity_matrix(
    similarity: NDArray[np.floating],
    path: Path,
    *,
    warp: NDArray[np.int64],
    query_phases: NDArray[np.int64],
    key_phases: NDArray[np.int64],
) -> Figure:
    """How alike each frame of one video is to each of another, the warp between them, and where phases begin.

    Args:
        similarity: (N, M).
        path: of the PNG.
        warp: (N,) frames of the other video.
        query_phases, key_phases: (N,) and (M,).
    """
    figure = empty_figure(width=6.0, height=5.2)
    axes = figure.add_subplot()
    image = axes.imshow(similarity, cmap="viridis", aspect="auto", origin="lower")
    axes.plot(warp, np.arange(len(warp)), color="#ffffff", linewidth=1.2, label="warp")
    for phases, line in ((query_phases, axes.axhline), (key_phases, axes.axvline)):
        for border in np.flatnonzero(np.diff(phases)) + 0.5:
            line(border, color=QUIET, linewidth=0.6, linestyle=":")
    axes.set_xlabel("frame of the other video", color=INK)
    axes.set_ylabel("frame", color=INK)
    axes.legend(loc="lower right", fontsize=8, facecolor=INK, labelcolor="#ffffff", framealpha=0.7)
    figure.colorbar(image, ax=axes, label="similarity")
    return save(figure, path)


def trajectories(videos: Sequence[NDArray[np.floating]], path: Path, *, seed: int) -> Figure:
    """Frames of videos as points by t-SNE, from dark at the first to bright at the last frame, a line for each video.

    Args:
        videos: (T, D) each.
        path: of the PNG.
        seed: of t-SNE.
    """
    step = -(-sum(map(len, videos)) // MAX_FRAMES)
    seen = [video[::step] for video in videos]
    points = np.concatenate(seen)
    plane, _ = principal_plane(points)
    near = neighbourhood_plane(points, plane, seed)
    figure = empty_figure(width=6.0, height=5.2)
    axes = figure.add_subplot()
    axes.set_title("t-SNE" if near is not None else "too few different frames for t-SNE", fontsize=10, color=INK)
    places = plane if near is None else near
    first = 0
    for frames in seen:
        of_video = places[first : first + len(frames)]
        first += len(frames)
        axes.plot(of_video[:, 0], of_video[:, 1], color=QUIET, linewidth=0.6, alpha=0.6)
        marks = axes.scatter(
            of_video[:, 0], of_video[:, 1], c=np.linspace(0, 1, len(frames)), cmap="plasma", s=14, vmin=0, vmax=1
        )
    figure.colorbar(marks, ax=axes, label="time, share of the video")
    axes.set_xticks([])
    axes.set_yticks([])
    return save(figure, path)
