"""Initial weights that a method gives to a whole network."""

from torch import nn


def he_convolutions(network: nn.Module) -> None:
    """Draw the weights of every 3D convolution anew: He normal, fan-out (He et al. 2015, arXiv:1502.01852)."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
