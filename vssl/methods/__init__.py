"""METHODS: every learning objective by name, and what the training loop asks of one. Torch-free at import time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where training stands. Everything that varies over training is a function of this, never of a hidden counter."""

    step: int  # optimiser updates done before this one
    epoch: int  # passes over the data done before this one
    steps_per_epoch: int
    epochs: int  # length of whatever varies over training

    @property
    def progress(self) -> float:
        """Share of that length which is done, in [0, 1)."""
        return self.step / (self.epochs * self.steps_per_epoch)


class Method(Protocol):
    """A learning objective: an `nn.Module` with the members below, built by its class method `from_config`.

    `state_dict` holds everything that training needs to go on, in a form that does not depend on the number of ranks.
    It may gather over ranks: all of them call it, whoever writes the file.
    """

    @property
    def backbone(self) -> Callable[[Tensor], Tensor]:
        """The network whose features are learned: (B, 3, T, H, W) -> (B, F, t, h, w)."""
        ...

    def forward(self, batch: Mapping[str, Any], position: Position) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Loss of this rank's part of the batch, and scalars to report, which are equal on all ranks."""
        ...

    def before_update(self, position: Position) -> None:
        """Called after the backward pass, before the optimiser's step."""
        ...

    def after_update(self, position: Position) -> None:
        """Called after the optimiser's step."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """What later stages read: `backbone.*` and whatever else the method hands on. Not gathered, on CPU."""
        ...


# name in the config -> class with `from_config(config, backbone_config, *, global_batch_size, seed)`
METHODS = {
    "vicc": "vssl.methods.vicc:ViCC",
    "fgkvmem": "vssl.methods.fgkvmem:FGKVMem",
    "maskfeat": "vssl.methods.maskfeat:MaskFeat",
    "carl": "vssl.methods.carl:CARL",
}


def load_method(name: str) -> Callable[..., Any]:
    """`from_config` of the class behind a name in METHODS."""
    module, _, class_name = METHODS[name].partition(":")
    from_config: Callable[..., Any] = getattr(import_module(module), class_name).from_config
    return from_config
