"""How well embeddings of frames follow what happens: order and labels of nearest neighbours, phases under a warp.

Pure functions on lists of videos, (T, D) embeddings of each; nothing here depends on the order of calls.
Source: TCC (Dwibedi et al., CVPR 2019) and CARL (Chen et al., CVPR 2022, arXiv:2203.14957), and its public code.
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import kendalltau

from vssl.evals.dtw import align

Embeddings = NDArray[np.floating]  # (T, D)
Labels = NDArray[np.int64]  # (T,)


def kendalls_tau(videos: Sequence[Embeddings], *, stride: int, metric: str = "sqeuclidean") -> float:
    """Mean tau-b of the nearest neighbours of a video's frames in another, over all ordered pairs of videos.

    Args:
        videos: (T, D) each.
        stride: every so manieth frame counts.
        metric: of `scipy.spatial.distance.cdist`.

    Returns:
        From -1, backwards, over 0, at random, to 1, in order; NaN where no pair has any order.
    """
    seen = [video[::stride] for video in videos]
    taus = [
        kendalltau(np.arange(len(query)), cdist(query, key, metric).argmin(axis=1)).statistic
        for i, query in enumerate(seen)
        for j, key in enumerate(seen)
        if i != j and len(query) > 1
    ]
    known = [tau for tau in taus if not np.isnan(tau)]
    return float(np.mean(known)) if known else float("nan")


def frame_retrieval(
    videos: Sequence[Embeddings],
    labels: Sequence[Labels],
    ks: Sequence[int],
    *,
    stride: int,
    metric: str = "sqeuclidean",
) -> dict[int, float]:
    """Share of a frame's nearest frames in all other videos that have its label: a mean over frames, then videos.

    It is a precision at k, under the name that it is published by. What is equally near keeps the order of the videos.

    Args:
        videos: (T, D) each.
        labels: (T,) each.
        ks: how many of the nearest.
        stride: every so manieth frame counts, on both sides.
        metric: of `scipy.spatial.distance.cdist`.
    """
    seen, known = [video[::stride] for video in videos], [one[::stride] for one in labels]
    hits: dict[int, list[float]] = {k: [] for k in ks}
    for i, query in enumerate(seen):
        others = [j for j in range(len(seen)) if j != i]
        if not others or not len(query):
            continue
        gallery, found = np.concatenate([seen[j] for j in others]), np.concatenate([known[j] for j in others])
        order = cdist(query, gallery, metric).argsort(axis=1, kind="stable")[:, : max(ks)]
        same = found[order] == known[i][:, None]
        for k in ks:
            hits[k].append(float(same[:, :k].mean()))
    return {k: float(np.mean(rates)) if rates else float("nan") for k, rates in hits.items()}


def chance_of_label(labels: Sequence[Labels]) -> float:
    """How often two random frames have one label: what a retrieval at random finds, and a warp at random hits."""
    _, counts = np.unique(np.concatenate(labels), return_counts=True)
    return float(np.square(counts / counts.sum()).sum())


def phase_error(query: Labels, key: Labels, aligned: NDArray[np.int64]) -> float:
    """Share of a sequence's frames that were laid over a frame of another phase.

    Args:
        query: (N,) phases of its frames.
        key: (M,) phases of the other's.
        aligned: (N,) frames of the other.
    """
    return float((query != key[aligned]).mean())


def chance_phase_error(query: Labels, key: Labels) -> float:
    """`phase_error` of random frames of the other sequence."""
    classes = np.union1d(query, key)
    one, other = (np.array([(labels == phase).mean() for phase in classes]) for labels in (query, key))
    return float(1 - one @ other)


def warp_phase_error(videos: Sequence[Embeddings], labels: Sequence[Labels], *, stride: int) -> tuple[float, float]:
    """Mean `phase_error` of a video warped onto another, and of random frames, over all ordered pairs of videos.

    Args:
        videos: (T, D) each.
        labels: (T,) each.
        stride: every so manieth frame counts.

    Returns:
        From 0, where the same phases lie over one another, to 1; NaN of a single video.
    """
    seen = [(video[::stride], of[::stride]) for video, of in zip(videos, labels)]
    errors = [
        (phase_error(of_query, of_key, align(query, key)), chance_phase_error(of_query, of_key))
        for (query, of_query), (key, of_key) in permutations(seen, 2)
    ]
    mean, chance = np.mean(errors, axis=0) if errors else (np.nan, np.nan)
    return float(mean), float(chance)
