"""Activations that are computed again in the backward pass instead of being kept.

A network in training moves its running statistics once a step, not once more for the second computation.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[[Tensor], Tensor], given: Tensor, layers: nn.Module) -> Tensor:
    """`function(given)`, of which only `given` is kept for the backward pass.

    Args:
        function: draws nothing at random.
        given: the argument.
        layers: holds whatever batch normalisation the function applies.
    """
    if not torch.is_grad_enabled():
        return function(given)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_at_rest(layers)

    output: Tensor = checkpoint(function, given, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return output


@contextmanager
def _statistics_at_rest(layers: nn.Module) -> Iterator[None]:
    """While new statistics count nothing. They are still handed to the layers, which must save the same tensors."""
    moving = [layer for layer in layers.modules() if isinstance(layer, _BatchNorm) and layer.training]
    momenta = [layer.momentum for layer in moving]
    counts = [(layer.num_batches_tracked, layer.num_batches_tracked.clone()) for layer in moving]  # type: ignore[union-attr]
    for layer in moving:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum, (count, before) in zip(moving, momenta, counts, strict=True):
            layer.momentum = momentum
            count.copy_(before)  # type: ignore[union-attr]
