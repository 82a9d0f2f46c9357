"""Classes of frames: the supervised objective that frame-wise learning is compared with.

Source: CARL (Chen et al., CVPR 2022, arXiv:2203.14957) and its public code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def frame_cross_entropy(logits: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of the slots that show a frame of their own which has a label, and how many of them are right.

    Args:
        logits: (..., K).
        labels: (...) int64 classes; below 0 where a frame has none.
        mask: (...) whether a slot shows a frame of its own.

    Returns:
        Two float32 scalars (float64 for such logits); the accuracy has no gradient. Both are 0 where nothing counts.

    Raises:
        ValueError: shapes that do not belong together.
    """
    if logits.shape[:-1] != labels.shape or labels.shape != mask.shape:
        raise ValueError(
            f"expected (..., K) logits with (...) labels and mask, got {tuple(logits.shape)}, {tuple(labels.shape)} "
            f"and {tuple(mask.shape)}"
        )
    counted = mask & (labels >= 0)
    with torch.autocast(logits.device.type, enabled=False):
        scores, classes = logits[counted], labels[counted]  # (n, K), (n,)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        count = max(len(classes), 1)
        hits = (scores.detach().argmax(dim=-1) == classes).to(scores.dtype)
        return F.cross_entropy(scores, classes, reduction="sum") / count, hits.sum() / count
