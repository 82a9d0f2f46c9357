"""Views of a video as one batch of clips for a backbone, and back: scores of views as scores of videos.

What is a crop is said by the caller and never guessed: six one-frame views may be six frames, or three crops of two.
Source: STS (Li et al., ECCV 2022, arXiv:2205.01721) and mmaction2.
"""

from typing import Literal

import torch
from torch import Tensor

Average = Literal["probabilities", "logits"]


def fold(views: Tensor) -> Tensor:
    """(B, V, 3, T, H, W) -> (B * V, 3, T, H, W): every view is a clip of its own."""
    return views.flatten(0, 1)


def fold_frames(views: Tensor, crops: int = 1) -> Tensor:
    """(B, crops * T, 3, 1, H, W) -> (B * crops, 3, T, H, W): one-frame views become the frames of one clip per crop.

    Args:
        views: all frames of the first crop, then all of the second.
        crops: spatial crops among the views.

    Raises:
        ValueError: a view has more than one frame, or the views are no multiple of the crops.
    """
    if views.ndim != 6 or views.shape[3] != 1 or views.shape[1] % crops:
        raise ValueError(f"expected (B, {crops} * T, 3, 1, H, W), got {tuple(views.shape)}")
    videos, shape = len(views), views.shape[4:]
    frames = views.reshape(videos * crops, -1, 3, *shape)  # (B * crops, T, 3, H, W)
    return frames.transpose(1, 2)


def average_views(logits: Tensor, num_views: int, by: Average = "probabilities") -> Tensor:
    """(B * V, K) logits of views, a video's views side by side -> (B, K): mean of their softmax, or of themselves."""
    scores = logits.softmax(dim=1) if by == "probabilities" else logits
    return scores.view(-1, num_views, scores.shape[1]).mean(dim=1)


def sum_by_video(scores: Tensor, videos: Tensor, num_videos: int) -> Tensor:
    """(N, K) scores of views in any order, view i of video `videos[i]` -> (num_videos, K) sums."""
    return torch.zeros(num_videos, scores.shape[1], dtype=scores.dtype).index_add_(0, videos, scores)
