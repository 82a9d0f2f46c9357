"""Which prototypes training uses: a network that maps every clip to one place uses one, whatever its loss says.

Balanced assignments cannot tell, since the Sinkhorn iterations give every prototype its share by construction; nor can
the loss alone, which a uniform prediction keeps at ln C. What tells is the prototype that each clip lies next to.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vssl.distributed import all_reduce_sum, is_main


def prototype_usage(method: Any) -> "PrototypeUsage | None":
    """What counts the prototypes of a method's main stream; None for a method that has none."""
    prototypes = getattr(method, "prototypes", None)
    return None if prototypes is None else PrototypeUsage(method.encoders[0], prototypes)


class PrototypeUsage:
    """Counts how often each prototype is the nearest one to an embedding that training computes, epoch by epoch.

    It looks on by a forward hook, so the method knows nothing of it, and evaluations are not counted.

    Args:
        encoder: gives (B, D) unit embeddings.
        prototypes: (B, D) -> (B, C) scores; its rows `weight`, (C, D), are unit vectors while the encoder runs.
    """

    def __init__(self, encoder: nn.Module, prototypes: Any) -> None:
        self._prototypes = prototypes
        self._counts = torch.zeros(len(prototypes.weight), dtype=torch.int64, device=prototypes.weight.device)
        self.last_epoch = torch.zeros_like(self._counts, device="cpu")  # (C,) counts of all ranks
        encoder.register_forward_hook(self._count)

    @torch.no_grad()
    def _count(self, encoder: nn.Module, _: Any, embeddings: Tensor) -> None:
        if encoder.training:
            with torch.autocast(embeddings.device.type, enabled=False):
                nearest = self._prototypes(embeddings).argmax(dim=1)  # (B,)
            self._counts.index_add_(0, nearest, torch.ones_like(nearest))

    def end_epoch(self) -> dict[str, float]:
        """`effective_prototypes` of the epoch that ends, see `effective_number`. All ranks call."""
        self.last_epoch = all_reduce_sum(self._counts).cpu()
        self._counts.zero_()
        return {"effective_prototypes": effective_number(self.last_epoch)}

    def state_dict(self) -> dict[str, Tensor]:
        """Counts of all ranks, so that any number of them goes on from here. All ranks call."""
        return {"counts": all_reduce_sum(self._counts).cpu(), "last_epoch": self.last_epoch}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._counts.copy_(state["counts"] if is_main() else torch.zeros_like(self._counts))
        self.last_epoch = state["last_epoch"]


def effective_number(counts: Tensor) -> float:
    """How many equally used entries would be as spread out as these: the exponential of the entropy of their shares.

    Args:
        counts: (C,) how often each was used.

    Returns:
        From 1, all on one, to C, all alike; 0 where nothing was counted.

    Source: perplexity; as a number of types, M. O. Hill, Ecology 54 (1973), order 1.
    """
    if not counts.any():
        return 0.0
    shares = counts[counts > 0].double() / counts.sum()
    return (-(shares * shares.log()).sum()).exp().item()
