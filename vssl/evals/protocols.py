"""Nearest-neighbour retrieval, tests in several crops, and late fusion of two streams.

Sources: ViCC (Toering et al., WACV 2022), section 4.3, with the evaluation code that it took from CoCLR (Han et al.,
NeurIPS 2020): each set is centred by its own mean, and two streams are joined by video name.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vssl.evals.features import unit


@dataclass(frozen=True, kw_only=True)
class Described:
    """Videos with one vector each: features, or class probabilities."""

    names: list[str]  # video ids, unique
    labels: Tensor  # (N,) int64
    vectors: Tensor  # (N, D) float32; (N, crops, D) before crops are averaged

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.labels) == len(self.vectors):
            raise ValueError(
                f"{len(self.names)} names, {len(self.labels)} labels and {len(self.vectors)} vectors; expected as many"
            )
        if len(set(self.names)) != len(self.names):
            raise ValueError("a video occurs twice; names must be unique for a join")

    def take(self, rows: Sequence[int]) -> "Described":
        index = torch.tensor(rows, dtype=torch.int64)
        return Described(
            names=[self.names[row] for row in rows], labels=self.labels[index], vectors=self.vectors[index]
        )


def centred(features: Tensor) -> Tensor:
    """(N, D) features minus their own mean over N, with unit rows."""
    features = features.float()
    return F.normalize(features - features.mean(dim=0, keepdim=True), dim=1)


def cosine_similarity(queries: Tensor, gallery: Tensor) -> Tensor:
    """(Q, G) cosine similarity; queries and gallery are each centred by their own mean."""
    return centred(queries) @ centred(gallery).T


def plain_cosine_similarity(queries: Tensor, gallery: Tensor) -> Tensor:
    """(Q, G) cosine similarity of features as they are: FGKVMem (Li et al., ACM Multimedia 2023)."""
    return unit(queries) @ unit(gallery).T


def dissimilarity(means: Tensor) -> Tensor:
    """Mean of 1 - cosine over all ordered pairs of a set's vectors, each with itself included.

    Args:
        means: (..., D) mean of the set's unit vectors; the mean cosine of all pairs is its squared length.
    """
    return 1 - means.square().sum(dim=-1)


def crop_protocols(per_crop: Tensor) -> dict[str, Tensor]:
    """Class probabilities of the centre alone, of five crops and of ten, as far as there are so many.

    Args:
        per_crop: (N, 1 or 5 or 10, K): centre, four corners, and the same of the mirrored frame; each the mean of the
            softmax over a video's windows.

    Returns:
        `centre`, `five`, `ten`: (N, K), the mean over the crops.
    """
    counts = {"centre": 1, "five": 5, "ten": 10}
    return {name: per_crop[:, :count].mean(dim=1) for name, count in counts.items() if count <= per_crop.shape[1]}


def join(first: Described, second: Described) -> tuple[Described, Described]:
    """Both restricted to the videos they share, in the order of the first.

    Raises:
        ValueError: no video in common, or one that has two different labels.
    """
    place = {name: row for row, name in enumerate(second.names)}
    rows = [row for row, name in enumerate(first.names) if name in place]
    if not rows:
        raise ValueError(
            f"no video in common: one side has names such as {first.names[0]!r}, the other {second.names[0]!r}"
        )
    left, right = first.take(rows), second.take([place[first.names[row]] for row in rows])
    differing = (left.labels != right.labels).nonzero().flatten().tolist()
    if differing:
        raise ValueError(f"{left.names[differing[0]]!r} has two different labels; the streams come from unequal lists")
    return left, right


def fused_similarity(
    queries: tuple[Described, Described], gallery: tuple[Described, Described]
) -> tuple[Tensor, Described, Described]:
    """Sum of the two streams' similarities over the videos that both have; the means are taken after the join.

    Args:
        queries: the two streams' queries.
        gallery: the two streams' galleries.

    Returns:
        (Q, G) similarity, and the first stream's queries and gallery that it belongs to.
    """
    (query_1, query_2), (gallery_1, gallery_2) = join(*queries), join(*gallery)
    similarity = cosine_similarity(query_1.vectors, gallery_1.vectors)
    similarity = similarity + cosine_similarity(query_2.vectors, gallery_2.vectors)
    return similarity, query_1, gallery_1


def fused_probabilities(first: Described, second: Described) -> Described:
    """Mean of two streams' class probabilities over the videos that both have, in the first stream's order."""
    left, right = join(first, second)
    return Described(names=left.names, labels=left.labels, vectors=(left.vectors + right.vectors) / 2)
