"""ResNet-50s that were trained on images, as others publish them, under torchvision's names.

A file of BYOL, MoCo v2 or SimCLR holds two networks and heads; what is taken is the online (query) network.
"""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from torch import Tensor

from vssl.inert_pickles import read_inert, without_inert
from vssl.run import StageError

Published = Literal["imagenet", "byol", "mocov2", "simclr"]

# kind -> key under which the tensors lie, what stands before their names, what their names must not hold
_FORMS: dict[str, tuple[str | None, str, str | None]] = {
    "imagenet": (None, "", None),
    "byol": ("model", "module.encoder.", "encoder_k"),
    "mocov2": ("state_dict", "module.encoder_q.", None),
    "simclr": ("state_dict", "encoder.", "momentum_encoder"),
}
_HEADS = ("fc.", "projection.", "predictor.", "projector.")


def read_image_network(path: Path, kind: Published) -> dict[str, Tensor]:
    """The tensors of a ResNet, its classifier or projector left out.

    Raises:
        StageError: the file cannot be read, or holds no such network.
    """
    try:
        content = _read(path)
    except Exception as error:  # torch's reader fails in unforeseeable ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StageError(f"{path} cannot be read as tensors ({reason}); save its state dict by torch.save") from None
    return image_network(content, kind, str(path))


def _read(path: Path) -> Any:
    """What a file holds: tensors and plain values; what else, as the settings in Lightning's of SimCLR, is left out."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        return without_inert(read_inert(path))


def image_network(content: Any, kind: Published, where: str) -> dict[str, Tensor]:
    """As `read_image_network`, of what a file holds.

    Raises:
        StageError: no such network in it.
    """
    key, prefix, other = _FORMS[kind]
    state = content.get(key) if key is not None and isinstance(content, Mapping) else content
    tensors = {
        name.partition(prefix)[2] if prefix else name: tensor
        for name, tensor in (state.items() if isinstance(state, Mapping) else ())
        if isinstance(tensor, Tensor) and prefix in name and (other is None or other not in name)
    }
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(_HEADS)}
    if "conv1.weight" not in tensors:
        names = list(content)[:3] if isinstance(content, Mapping) else type(content).__name__
        raise StageError(
            f"{where} holds no {kind} network: expected {prefix}conv1.weight{f' under {key!r}' if key else ''}, it has "
            f"{names}; say what the file is by `initial`: {', '.join(_FORMS)}, carl or none"
        )
    return tensors
