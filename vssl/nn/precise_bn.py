"""Running statistics of batch normalisation, of a network that is done learning: the same on all ranks, or precise."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vssl.distributed import broadcast_object
from vssl.nn.drop_path import DropPath


@torch.no_grad()
def set_precise_statistics(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace all running means and variances by their means over some batches; no weight changes.

    No path is dropped: the network that the statistics are for has them all. Afterwards all layers have the momentum
    and the mode that they had, and all ranks the statistics of rank 0, which is what training data-parallel networks
    follow, too.

    Args:
        network: its layers of batch normalisation are what is changed.
        batches: (B, 3, T, H, W) each, as the network saw them in training but not mixed.

    Returns:
        How many batches there were. With none, the statistics of rank 0 stay as they are.

    Source: Wu and Johnson, arXiv:2105.07576, in the form of the public codes of FGKVMem and STS: each batch counts the
    same, with its unbiased variance.
    """
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(layer.momentum, layer.training) for layer in layers]
    training = network.training
    network.train()
    for module in network.modules():
        if isinstance(module, DropPath):
            module.eval()
    count = 0
    try:
        for count, clips in enumerate(batches, start=1):
            if count == 1:
                for layer in layers:
                    layer.reset_running_stats()
                    layer.momentum = None  # torch's word for the plain mean
            network(clips)
    finally:
        network.train(training)
        for layer, (momentum, mode) in zip(layers, before, strict=True):
            layer.momentum = momentum
            layer.train(mode)
    share_statistics(network)
    return count


@torch.no_grad()
def share_statistics(network: nn.Module) -> None:
    """Give all ranks the running statistics of rank 0, which data-parallel training does before its next forward.

    After the last one nobody does: ranks whose layers normalise their own clips would test with networks of their own.
    """
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    states = broadcast_object([{name: buffer.cpu() for name, buffer in layer.named_buffers()} for layer in layers])
    for layer, state in zip(layers, states, strict=True):
        layer.load_state_dict(state, strict=False)
