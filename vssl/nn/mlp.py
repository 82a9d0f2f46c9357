"""Perceptrons with batch normalisation, as the projectors and predictors of BYOL (arXiv:2006.07733) are built."""

from torch import Tensor, nn

from vssl.nn.batchnorm import NormLayer


class MLP(nn.Module):
    """Linear layers with normalisation and ReLU between them: (B, inputs) -> (B, outputs).

    A layer that is followed by normalisation has no bias, the last of several has one; a single layer has none. Initial
    weights are uniform within sqrt(3 / inputs of the layer), biases zero.

    Args:
        inputs, hidden, outputs: sizes.
        layers: linear layers; with 1, `hidden` is unused.
        norm_layer: number of channels -> normalisation layer of a backbone.

    Source: the builder of PySlowFast's heads, which FGKVMem uses (Li et al., ACM Multimedia 2023).
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int, norm_layer: NormLayer) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for _ in range(layers - 1):
            self.layers.extend([_linear(inputs, hidden, bias=False), VectorNorm(norm_layer(hidden)), nn.ReLU()])
            inputs = hidden
        self.layers.append(_linear(inputs, outputs, bias=layers > 1))

    def forward(self, vectors: Tensor) -> Tensor:
        output: Tensor = self.layers(vectors)
        return output


class VectorNorm(nn.Module):
    """A backbone's normalisation layer for (B, C) vectors, which it takes as maps of one point."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, vectors: Tensor) -> Tensor:
        maps: Tensor = self.norm(vectors[:, :, None, None, None])
        return maps.flatten(1)


def _linear(inputs: int, outputs: int, *, bias: bool) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")  # within sqrt(3 / inputs)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
