"""A picture of what a video transformer's class token attends to."""

from pathlib import Path

import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from vssl.plots import INK, save

_MASS = 0.6  # share of a frame's attention that is shown; the weakest patches are left dark
_MOST_FRAMES = 8


def attention_map(clip: Tensor, shares: Tensor, path: Path, *, title: str) -> Figure:
    """Frames of a clip, and below each the patches that hold most of its attention, the mean over heads.

    Args:
        clip: (3, T, H, W) as the network saw it; only its contrast is shown.
        shares: (t, heads, h, w) from `VideoTransformer.class_attention`.
        path: PNG file to write.
        title: what stands above.

    Source: the pictures of VideoTransformer-pytorch, which keep 0.6 of the mass of each head.
    """
    low, high = clip.amin(), clip.amax()
    frames = ((clip - low) / (high - low + 1e-6)).permute(1, 2, 3, 0)  # (T, H, W, 3)
    step = len(frames) // len(shares)  # source frames of a token
    shown = range(0, len(shares), max(1, -(-len(shares) // _MOST_FRAMES)))
    figure = Figure(figsize=(1.6 * len(shown), 3.6), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False)
    for column, number in enumerate(shown):
        frame = frames[number * step]
        kept = strongest(shares[number].mean(dim=0), _MASS)
        large = F.interpolate(kept[None, None], size=tuple(frame.shape[:2]), mode="nearest")[0, 0]
        lit = frame * (0.15 + 0.85 * (large / large.amax().clamp(min=1e-9))[:, :, None])
        axes[0, column].imshow(frame.numpy())
        axes[1, column].imshow(lit.numpy())
        axes[0, column].set_title(f"frame {number * step}", fontsize=8, color=INK)
        for row in range(2):
            axes[row, column].axis("off")
    figure.suptitle(title, fontsize=10, color=INK)
    save(figure, path)
    return figure


def strongest(shares: Tensor, mass: float) -> Tensor:
    """(h, w) with 0 in place of the weakest patches, so that the others hold at least this share of the sum."""
    flat = shares.flatten()
    order = flat.argsort(descending=True)
    before = flat[order].cumsum(0) - flat[order]  # held by the stronger ones
    kept = flat.new_zeros(flat.shape)
    kept[order] = flat[order] * (before < mass * flat.sum())
    return kept.view_as(shares)
