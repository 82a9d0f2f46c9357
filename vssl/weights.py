"""Weights: the parameters that one stage hands to another, in a file that says what they belong to."""

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vssl.artifacts import Artifact, canonical_json, write_atomic
from vssl.run import Run, StageError


def save_weights(run: Run, name: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write the artifact `<name>`: parameters and buffers with a JSON header that says what they belong to.

    Args:
        run: the stage's execution; rank 0 only.
        name: of the artifact.
        header: at least `kind`, `stage`, `backbone` and `modality`.
        tensors: by full name, such as `backbone.*`, `projector.*`, `prototypes.weight`.
    """
    run.check_ownership()
    path = run.artifact(name)
    plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    content = {"header": canonical_json(dict(header)), "tensors": plain}
    write_atomic(path, lambda stream: torch.save(content, stream))
    return path


@dataclass(frozen=True, kw_only=True)
class Weights:
    header: dict[str, Any]
    tensors: dict[str, Tensor]
    origin: str

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `<prefix>.`, with the prefix taken off."""
        return {name.removeprefix(f"{prefix}."): t for name, t in self.tensors.items() if name.startswith(f"{prefix}.")}


def load_weights(artifact: Artifact, *, backbone: Mapping[str, Any] | None = None) -> Weights:
    """Read a weights artifact onto the CPU.

    Args:
        artifact: of type `weights`.
        backbone: config of the network that is to take them; None accepts any.

    Raises:
        StageError: not a weights file, or one of another backbone.
    """
    try:
        if not zipfile.is_zipfile(artifact.path):  # torch's reader of its older format fails in unforeseeable ways
            raise ValueError("not a file of torch.save" if artifact.path.is_file() else "there is no such file")
        content = torch.load(artifact.path, map_location="cpu", weights_only=True)
        header, tensors = json.loads(content["header"]), content["tensors"]
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StageError(
            f"{artifact.path} cannot be read as weights ({reason}); expected a file of a pretrain or linear stage, "
            'a torch.save of {"header": <JSON text>, "tensors": {name: tensor}}'
        ) from None
    if backbone is not None and header.get("backbone") != dict(backbone):
        raise StageError(
            f"the weights of {artifact.origin} belong to the backbone {header.get('backbone')}, this stage is "
            f"configured with {dict(backbone)}; set the same backbone in both, or bind other weights"
        )
    return Weights(header=header, tensors=tensors, origin=artifact.origin)


def fill(module: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Load tensors that must match a module exactly, name by name and shape by shape.

    Args:
        module: the network to fill.
        tensors: its state, as `Weights.part` gives it.
        what: the origin, for the message.

    Raises:
        StageError: names or shapes that do not fit, the first few of each kind.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    shapes = [
        f"{name} is {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    problems = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    found = "; ".join(f"{len(names)} {kind}: {', '.join(names[:3])}" for kind, names in problems if names)
    if found:
        raise StageError(f"{what} does not fit {type(module).__name__}: {found}")
    module.load_state_dict(dict(tensors))
