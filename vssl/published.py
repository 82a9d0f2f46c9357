"""Checkpoints of ViCC's public code (github.com/martinetoering/ViCC), under this project's names and back.

What a file holds is read from the names in it, never from the link that it came by: links to single-stream and
cross-stream files have been exchanged in the public documentation. Whether it was trained on RGB or flow no file says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vssl.backbones.published_names import family, own_name, published_names, recognised
from vssl.run import StageError

BACKBONES = ("s3d", "s3dg", "r21d")

_PROJECTOR = {"2": "0", "4": "2"}  # layer of the original's encoder -> layer of ours


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A published checkpoint under this project's names.

    Attributes:
        stage: single, cross, linear or finetune.
        backbone: as in `backbone.name`.
        tensors: `backbone.*`; of pretraining `projector.*` and `prototypes.weight`, of a classifier `head.*`.
        left_out: names in the file that nothing here stands for, such as the frozen stream's.
        epoch: 0-based, as the file says; None where it does not.
        doubles: tensors that the file names twice and that agree.
        code: whose public code wrote it.
        method: as weights of our own say it.
        backbone_config: all of the backbone's config, where it has more than a name.
        clips: what a classifier saw, as `vssl.predict.SeenConfig` has it; None where it is not known.
    """

    stage: str
    backbone: str
    tensors: dict[str, Tensor]
    left_out: list[str]
    epoch: int | None
    doubles: int
    code: str = "ViCC's"
    method: str = "vicc"
    backbone_config: Mapping[str, Any] | None = None
    clips: Mapping[str, Any] | None = None

    def report(self) -> str:
        """What was taken from the file and what was not, in one line."""
        parts = [name.partition(".")[0] for name in self.tensors]
        taken = ", ".join(f"{parts.count(part)} {part}" for part in dict.fromkeys(parts))
        epoch = "" if self.epoch is None else f" after epoch {self.epoch}"
        twice = f" ({self.doubles} of them named twice, alike)" if self.doubles else ""
        tops = [".".join(name.split(".")[:1]) for name in self.left_out]
        rest = ", ".join(f"{tops.count(top)} {top}.*" for top in dict.fromkeys(tops)) or "nothing"
        return (
            f"a {self.stage} checkpoint of {self.code} public code{epoch}, backbone {self.backbone}: took {taken} "
            f"tensors{twice}; left out {rest}"
        )

    def header(self) -> dict[str, Any]:
        """As `vssl.weights` writes it; the modality is what no file says."""
        backbone = dict(self.backbone_config or {"name": self.backbone})
        clips = {} if self.clips is None else {"clips": dict(self.clips)}
        about = {"kind": self.stage, "stage": "published", "method": self.method}
        return {**about, "backbone": backbone, "modality": None, **clips}


def is_published(content: Any) -> bool:
    """Whether what a file holds looks like a checkpoint of the public code, or its bare state dict."""
    return isinstance(content, Mapping) and _stage(state_of(content)) is not None


def import_published(content: Mapping[str, Any]) -> Imported:
    """Translate a checkpoint, or its bare state dict.

    Raises:
        StageError: no checkpoint of the public code, a backbone that is not known here, or one tensor under two names
            with two values.
    """
    state = state_of(content)
    stage = _stage(state)
    if stage is None:
        raise StageError(
            f"no checkpoint of ViCC's public code: its names begin with {', '.join(_tops(state)) or 'nothing'}, where "
            "one has encoder_q.* or backbone.*"
        )
    prefix = "encoder_q.0." if stage in ("single", "cross") else "backbone."
    backbone = recognised(name.removeprefix(prefix) for name in state if name.startswith(prefix))
    if backbone is None:
        raise StageError(
            f"the backbone of this {stage} checkpoint is not known: its tensors have names such as "
            f"{next(name for name in state if name.startswith(prefix))}; known: {', '.join(BACKBONES)}"
        )
    tensors: dict[str, Tensor] = {}
    left_out, doubles = [], 0
    for name, tensor in state.items():
        found = translated(name, prefix, backbone)
        if found is None:
            left_out.append(name)
        elif found not in tensors:
            tensors[found] = tensor
        elif torch.equal(tensors[found], tensor):
            doubles += 1
        else:
            raise StageError(f"{name} and another name of the same tensor ({found}) hold different values")
    epoch = content.get("epoch")
    return Imported(
        stage=stage,
        backbone=backbone,
        tensors=tensors,
        left_out=left_out,
        epoch=epoch if isinstance(epoch, int) else None,
        doubles=doubles,
    )


def export_published(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """A checkpoint as the public code reads it, with both of S3D's name families.

    Args:
        header: of a weights file; its backbone decides on the names.
        tensors: of that file, of a pretraining or of a classifier.

    Raises:
        StageError: a backbone that the public code does not have.
    """
    backbone = header["backbone"]["name"]
    if backbone not in BACKBONES:
        raise StageError(f"ViCC's public code has no backbone {backbone}; it has {', '.join(BACKBONES)}")
    classifier = any(name.startswith("head.") for name in tensors)
    prefix = "backbone." if classifier else "encoder_q.0."
    with_norm = "head.norm.weight" in tensors
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        part, _, inner = name.partition(".")
        if part == "backbone":
            names = [prefix + one for one in published_names(backbone, inner)]
        elif part == "projector":
            layer, _, leaf = inner.removeprefix("layers.").partition(".")
            names = [f"encoder_q.{theirs}.{leaf}" for theirs, ours in _PROJECTOR.items() if ours == layer]
        elif name.startswith("head.norm."):
            names = [f"final_bn.{name.removeprefix('head.norm.')}"]
        elif name.startswith("head.linear."):
            names = [f"final_fc.{0 if with_norm else 1}.{name.removeprefix('head.linear.')}"]
        else:
            names = [name]
        state |= dict.fromkeys(names, tensor)
    return {"epoch": 0, "state_dict": state}


def state_of(content: Mapping[str, Any], key: str = "state_dict", *, prefix: str = "module.") -> dict[str, Tensor]:
    """The tensors by name: of what a file holds under `key`, or else of the file itself.

    Args:
        content: of the file.
        key: of the state dict.
        prefix: what training puts before names, and is taken off: that of data-parallel training, unless given.
    """
    state = content.get(key, content)
    if not isinstance(state, Mapping):
        return {}
    return {str(name).removeprefix(prefix): t for name, t in state.items() if isinstance(t, Tensor)}


def _stage(state: Mapping[str, Tensor]) -> str | None:
    tops = set(_tops(state))
    if "encoder_q" in tops:
        return "cross" if "second" in tops else "single"
    if "backbone" in tops and "final_fc" in tops:
        return "linear" if "final_bn" in tops else "finetune"
    return None


def _tops(state: Mapping[str, Tensor]) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in state))


def translated(name: str, prefix: str, backbone: str) -> str | None:
    """This project's name of a tensor in a file, or None for what it has no use for.

    Args:
        name: in the file.
        prefix: of the backbone's tensors there.
        backbone: as in `backbone.name`.
    """
    if name.startswith(prefix):
        inner = name.removeprefix(prefix)
        if backbone != "r21d" and not family(inner):
            return None
        return f"backbone.{own_name(backbone, inner)}"
    if name == "prototypes.weight":
        return name
    part, _, rest = name.partition(".")
    number, _, leaf = rest.partition(".")
    if part == "encoder_q" and number in _PROJECTOR:
        return f"projector.layers.{_PROJECTOR[number]}.{leaf}"
    if part == "final_bn":
        return f"head.norm.{rest}"
    return f"head.linear.{leaf}" if part == "final_fc" else None
