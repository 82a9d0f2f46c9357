"""Dropout of whole sequences whose draws are named: neither ranks nor restarts change them."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

Drop = Callable[[Tensor, float], Tensor]  # (N, ...), probability -> the same, some of it 0 and the rest scaled up


def keep_all(values: Tensor, probability: float) -> Tensor:
    """No dropout: in evaluation."""
    return values


class SequenceDropout:
    """Dropout in which each sequence of a batch has a stream of its own, that all layers draw from in turn.

    Args:
        streams: one a sequence.
    """

    def __init__(self, streams: Sequence[Generator]) -> None:
        self._streams = streams

    def __call__(self, values: Tensor, probability: float) -> Tensor:
        """(N, ...) values of N sequences."""
        if not probability:
            return values
        drawn = torch.stack([torch.rand(values.shape[1:], generator=stream) for stream in self._streams])
        if probability == 1:
            return torch.zeros_like(values)
        return values * ((drawn >= probability) / (1 - probability)).to(values)
