"""Time contrast: a frame and one shortly before it, against all other such pairs of the video.

Source: TCN (Sermanet et al., ICRA 2018, arXiv:1704.06888) with the n-pairs loss (Sohn, NIPS 2016), as in CARL's public
code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def time_contrast(embeddings: Tensor, *, size_weight: float = 0.002) -> Tensor:
    """Mean over videos of the cross-entropy of each anchor's own positive among all, and of the embeddings' sizes.

    Args:
        embeddings: (N, 2 P, C), P pairs of a video as anchor, positive, anchor, ...
        size_weight: four times the weight of the mean squared length of anchors and of positives.

    Returns:
        Float32 scalar (float64 for such input).

    Raises:
        ValueError: an odd number of slots.
    """
    if embeddings.ndim != 3 or embeddings.shape[1] % 2:
        raise ValueError(f"expected (N, 2 P, C) embeddings, P pairs of a video, got {tuple(embeddings.shape)}")
    with torch.autocast(embeddings.device.type, enabled=False):
        pairs = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        anchors, positives = pairs[:, ::2], pairs[:, 1::2]  # (N, P, C) each
        logits = (anchors @ positives.transpose(1, 2)).flatten(0, 1)  # (N P, P)
        own = torch.arange(anchors.shape[1], device=logits.device).repeat(len(pairs))
        sizes = anchors.square().sum(dim=2).mean() + positives.square().sum(dim=2).mean()
        return F.cross_entropy(logits, own) + 0.25 * size_weight * sizes
