"""Initial weights that a method gives to a whole network."""

import torch
from torch import Tensor, nn


def he_convolutions(network: nn.Module) -> None:
    """Draw the weights of every 3D convolution anew: He normal, fan-out (He et al. 2015, arXiv:1502.01852)."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def spread_taps(weight: Tensor) -> Tensor:
    """A 3D kernel of 3 frames whose outer taps become a ninth of the middle one, which itself becomes a third.

    Kernels of other lengths are handed back. The sum of the taps is 5/9 of what the middle one was, so that batch
    normalisation has to adapt; the public code of STS starts SlowOnly like this on Something-Something V2.

    Args:
        weight: (D, C, T, H, W); of other shapes too, which are handed back.
    """
    if not _has_three_taps(weight):
        return weight
    middle = weight[:, :, 1]
    return torch.stack([middle / 9, middle / 3, middle / 9], dim=2)


@torch.no_grad()
def spread_kernels(network: nn.Module) -> None:
    """`spread_taps` of all weights of a network.

    Raises:
        ValueError: none of them is a kernel of 3 frames.
    """
    kernels = [weight for weight in network.parameters() if _has_three_taps(weight)]
    if not kernels:
        raise ValueError(f"{type(network).__name__} has no kernels of 3 frames whose taps could be spread")
    for weight in kernels:
        weight.copy_(spread_taps(weight))


def zero_residuals(network: nn.Module) -> None:
    """Let every residual branch add nothing at first: the weight of its last normalisation becomes 0.

    Raises:
        ValueError: a network whose blocks do not say which that is.

    Source: Goyal et al. 2017, arXiv:1706.02677.
    """
    layers = [module.last_norm for module in network.modules() if hasattr(module, "last_norm")]
    if not layers:
        raise ValueError(f"{type(network).__name__} has no residual blocks that can begin at nothing")
    for layer in layers:
        nn.init.zeros_(layer.weight)  # type: ignore[arg-type, union-attr]


def _has_three_taps(weight: Tensor) -> bool:
    return weight.ndim == 5 and weight.shape[2] == 3
