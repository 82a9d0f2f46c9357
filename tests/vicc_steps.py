"""Steps of ViCC on given embeddings, with everything between input and loss kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vssl.methods import Position
from vssl.methods.vicc import ViCC
from vssl.methods.vicc_config import ViCCConfig


class Unit(nn.Module):
    """An encoder that only normalises what it is given, after an optional layer."""

    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = layer or nn.Identity()

    def forward(self, vectors: Tensor) -> Tensor:
        return F.normalize(self.layer(vectors), dim=1)


@dataclass
class Kept:
    loss: Tensor
    assignments: Tensor  # (A, B, C)
    scores: Tensor  # (V * B, C)
    embeddings: Tensor  # (V * B, D)
    queue_used: bool


def at(step: int, steps_per_epoch: int = 1, epochs: int = 10) -> Position:
    return Position(step=step, epoch=step // steps_per_epoch, steps_per_epoch=steps_per_epoch, epochs=epochs)


def method_on(
    prototypes: Tensor,
    encoders: Sequence[nn.Module],
    *,
    local_batch: int,
    global_batch: int | None = None,
    **knobs: Any,
) -> ViCC:
    """ViCC with given prototypes and encoders; the queue and the freeze start at once unless knobs say otherwise."""
    defaults = {"queue_len": 0, "queue_start_epoch": 0, "freeze_prototypes_epochs": 0, "bn_group_size": local_batch}
    sizes = {"num_prototypes": prototypes.shape[0], "proj_dim": prototypes.shape[1]}
    config = ViCCConfig(**(defaults | sizes | knobs))
    method = ViCC(config, encoders, global_batch_size=global_batch or local_batch, seed=0)
    with torch.no_grad():
        method.prototypes.weight.copy_(prototypes)
    return method


def step(method: ViCC, position: Position | None = None, **streams: Tensor) -> Kept:
    """Forward and backward; gradients are left on the inputs and parameters."""
    method.zero_grad()
    for clips in streams.values():
        clips.requires_grad_(True)
        clips.grad = None
    kept: dict[str, Any] = {"queue_used": bool(method.queues) and method.queues[0].is_full()}
    assign = type(method).assign

    def assign_and_keep(embeddings: Sequence[Tensor], scores: Sequence[Tensor], position: Position) -> list[Tensor]:
        assignments = assign(method, embeddings, scores, position)
        kept.update(
            embeddings=torch.cat(list(embeddings)).detach(),
            scores=torch.cat(list(scores)).detach(),
            assignments=torch.stack(assignments),
        )
        return assignments

    method.assign = assign_and_keep  # type: ignore[method-assign]
    loss, _ = method({"streams": streams}, position or at(0))
    del method.assign
    loss.backward()
    return Kept(loss=loss.detach(), **kept)
