"""Weights: the parameters that one stage hands to another, in a file that says what they belong to.

Checkpoints of public code are read as well: of ViCC (`vssl.published`), FGKVMem (`vssl.published_slowfast`),
VideoTransformer-pytorch (`vssl.published_vtransformer`), STS (`vssl.published_sts`), CARL (`vssl.published_carl`), and
image transformers (`vssl.published_vit`). Reading runs nothing that is in a file: what such a checkpoint holds besides
tensors and plain values, as its program's arguments, is left out (`vssl.inert_pickles`).
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from vssl.artifacts import Artifact, canonical_json, write_atomic
from vssl.backbones.backbone_config import is_same_network
from vssl.backbones.misfits import misfits
from vssl.inert_pickles import read_inert, without_inert
from vssl.published import Imported, import_published, is_published
from vssl.published_carl import import_carl, is_carl
from vssl.published_slowfast import import_slowfast, is_slowfast
from vssl.published_sts import import_sts, is_sts
from vssl.published_vit import import_image_vit, is_image_vit
from vssl.published_vtransformer import import_vtransformer, is_vtransformer
from vssl.run import Run, StageError

FOREIGN = "ViCC, FGKVMem, VideoTransformer-pytorch, STS or CARL, or an image transformer"
# what looks like a foreign file, and what makes it one of ours
_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Mapping[str, Any]], Imported]], ...] = (
    (is_published, import_published),
    (is_slowfast, import_slowfast),
    (is_vtransformer, import_vtransformer),
    (is_sts, import_sts),
    (is_carl, import_carl),
    (is_image_vit, import_image_vit),
)


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
    write_weights(path, header, tensors)
    return path


def write_weights(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a weights file outside of a stage; as `save_weights` otherwise."""
    plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    write_torch(path, {"header": canonical_json(dict(header)), "tensors": plain})


def write_torch(path: Path, content: Mapping[str, Any]) -> None:
    """torch.save, whole or not at all."""
    write_atomic(path, lambda stream: torch.save(dict(content), stream))


@dataclass(frozen=True, kw_only=True)
class Weights:
    header: dict[str, Any]
    tensors: dict[str, Tensor]
    origin: str
    report: str = ""  # of a foreign file: what was taken from it

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `<prefix>.`, with the prefix taken off."""
        return {name.removeprefix(f"{prefix}."): t for name, t in self.tensors.items() if name.startswith(f"{prefix}.")}


def load_weights(artifact: Artifact, *, backbone: Mapping[str, Any] | None = None) -> Weights:
    """Read a weights artifact, or a checkpoint of a public code, onto the CPU.

    Args:
        artifact: of type `weights`.
        backbone: config of the network that is to take them; None accepts any.

    Raises:
        StageError: not a weights file, or one of another backbone.
    """
    header, tensors, report = read_weights(artifact.path)
    if backbone is not None and not is_same_network(backbone, header.get("backbone")):
        raise StageError(
            f"the weights of {artifact.origin} belong to the backbone {header.get('backbone')}, this stage is "
            f"configured with {dict(backbone)}; set the same backbone in both, or bind other weights"
        )
    return Weights(header=header, tensors=tensors, origin=artifact.origin, report=report)


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """(header, tensors, report) of a weights file or a published checkpoint; the report is empty for our own.

    Raises:
        StageError: neither, or a file of our own that holds more than tensors and plain values.
    """
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        content = _read(path)
        found = import_foreign(content)
        if found is not None:
            return found.header(), found.tensors, found.report()
        return json.loads(content["header"]), content["tensors"], ""
    except StageError as error:
        raise StageError(f"{path}: {error}") from None
    except Exception as error:  # torch's reader of its older format fails in unforeseeable ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        told = "" if "weights_only" in reason else f" ({reason})"  # torch then advises to run what is in the file
        raise StageError(
            f"{path} cannot be read as weights{told}; expected a file of a pretrain, linear or finetune stage, "
            'a torch.save of {"header": <JSON text>, "tensors": {name: tensor}}, or a checkpoint of the public code of '
            f"{FOREIGN}; of other code, save a plain state dict under the names of one of these"
        ) from None


def import_foreign(content: Any) -> Imported | None:
    """What a checkpoint of a public code is here; None: it is of none that is known.

    Raises:
        StageError: a network that is not known here.
    """
    for is_one, translate in _KINDS:
        if is_one(content):
            return translate(content)
    return None


def _read(path: Path) -> Any:
    """What a file holds: tensors and plain values. A checkpoint of a public code may hold more, which is left out."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        with suppress(Exception):  # whatever a damaged file makes of it: the first error tells more
            content = without_inert(read_inert(path))
            if any(is_one(content) for is_one, _ in _KINDS):
                return content
        raise


def fill(module: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Load tensors that must match a module exactly, name by name and shape by shape.

    Args:
        module: the network to fill.
        tensors: its state, as `Weights.part` gives it.
        what: the origin, for the message.

    Raises:
        StageError: names or shapes that do not fit, the first few of each kind.
    """
    problems = misfits(module.state_dict(), tensors)
    if problems:
        raise StageError(f"{what} does not fit {type(module).__name__}: {problems}")
    module.load_state_dict(dict(tensors))
