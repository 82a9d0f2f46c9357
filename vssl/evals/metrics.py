"""Recall at k, top-k accuracy, and what chance would reach. Pure functions; every figure is a fraction from 0 to 1."""

from collections.abc import Sequence

import torch
from torch import Tensor

_ROWS = 1024  # queries that are ranked at a time, so that a large gallery needs no sorted copy of the whole matrix


def ranked(similarity: Tensor, depth: int) -> Tensor:
    """Columns by falling similarity; equal similarities keep the order of the columns.

    Args:
        similarity: (Q, G).
        depth: columns to keep per row; more than there are means all.

    Returns:
        (Q, min(depth, G)) int64.
    """
    parts = (similarity[first : first + _ROWS] for first in range(0, len(similarity), _ROWS))
    order = [torch.sort(part, dim=1, descending=True, stable=True).indices[:, :depth] for part in parts]
    return torch.cat(order) if order else torch.empty(0, depth, dtype=torch.int64)


def recall_at(similarity: Tensor, query_labels: Tensor, gallery_labels: Tensor, ks: Sequence[int]) -> dict[str, float]:
    """Share of queries with at least one gallery video of their class among the k most similar.

    Args:
        similarity: (Q, G), larger is nearer.
        query_labels: (Q,) class indices.
        gallery_labels: (G,) class indices.
        ks: ranks; a rank beyond the gallery counts the whole gallery.

    Returns:
        `recall_at_<k>` for each k.

    Raises:
        ValueError: shapes that do not belong together, or nothing to rank.

    Source: ViCC (Toering et al., WACV 2022), section 4.3; the measure of Xu et al., CVPR 2019.
    """
    if similarity.shape != (len(query_labels), len(gallery_labels)) or similarity.numel() == 0:
        raise ValueError(
            f"similarity is {tuple(similarity.shape)} for {len(query_labels)} queries and {len(gallery_labels)} "
            "gallery videos; expected a filled (queries, gallery) matrix"
        )
    order = ranked(similarity, max(ks))
    hits = gallery_labels[order] == query_labels[:, None]  # (Q, depth)
    return {f"recall_at_{k}": hits[:, :k].any(dim=1).double().mean().item() for k in ks}


def chance_recall_at_1(query_labels: Tensor, gallery_labels: Tensor) -> float:
    """Recall at 1 of a gallery in random order: how often a random gallery video has the query's class."""
    same = query_labels[:, None] == gallery_labels[None, :]
    return same.double().mean().item()


def top_k(scores: Tensor, labels: Tensor, k: int) -> float:
    """Share of rows whose label is among the k largest scores.

    Args:
        scores: (N, C) logits or probabilities.
        labels: (N,) class indices.
        k: more than C means C.

    Raises:
        ValueError: shapes that do not belong together, or no rows.
    """
    if scores.ndim != 2 or len(scores) != len(labels) or len(labels) == 0:
        raise ValueError(f"scores are {tuple(scores.shape)} for {len(labels)} labels; expected (N, C) with N > 0")
    return (ranked(scores, k) == labels[:, None]).any(dim=1).double().mean().item()


def mean_class_accuracy(scores: Tensor, labels: Tensor, *, legacy: bool = False) -> float:
    """Mean over classes of the share of a class's rows whose largest score is the class's.

    Args:
        scores: (N, C) logits or probabilities.
        labels: (N,) class indices.
        legacy: as in mmaction2 and the public code of STS, a class that no row has and that some row is taken for
            counts as well, with 0; else the mean is over the classes that rows have.

    Raises:
        ValueError: shapes that do not belong together, or no rows.
    """
    if scores.ndim != 2 or len(scores) != len(labels) or len(labels) == 0:
        raise ValueError(f"scores are {tuple(scores.shape)} for {len(labels)} labels; expected (N, C) with N > 0")
    found = ranked(scores, 1)[:, 0]
    right = torch.bincount(labels[found == labels], minlength=scores.shape[1]).double()
    of_class = torch.bincount(labels, minlength=scores.shape[1])
    recalls = right / of_class.clamp(min=1)
    counted = of_class > 0
    if legacy:
        counted |= torch.bincount(found, minlength=scores.shape[1]) > 0
    return recalls[counted].mean().item()


def chance_top1(labels: Tensor) -> float:
    """Accuracy of always naming the most frequent class."""
    return labels.bincount().max().item() / len(labels)
