"""Checkpoints of FGKVMem's public code, a fork of PySlowFast, under this project's names.

What is taken is what the original takes when it starts another network from one: the online trunk; of a classifier its
last layer too. Projector, memory, target network and the rest stay behind.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vssl.backbones.slowfast_names import own_name
from vssl.published import Imported, state_of
from vssl.run import StageError

_STEM = "s1.pathway0_stem."
_LONE = "s5.pathway0_res0.branch2.weight"
_HEAD = {"head.projection.weight": "head.linear.weight", "head.projection.bias": "head.linear.bias"}


def is_slowfast(content: Any) -> bool:
    """Whether what a file holds looks like a checkpoint of the public code, or its bare state dict."""
    return isinstance(content, Mapping) and _prefix(state_of(content, "model_state")) is not None


def import_slowfast(content: Mapping[str, Any]) -> Imported:
    """Translate a checkpoint, or its bare state dict.

    Raises:
        StageError: a trunk that is not known here.
    """
    state = state_of(content, "model_state")
    prefix = _prefix(state)
    assert prefix is not None
    trunk = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(f"{prefix}s")}
    backbone = _backbone(trunk)
    tensors = {f"backbone.{own_name(backbone['name'], name)}": tensor for name, tensor in trunk.items()}
    is_classifier = "head.projection.weight" in state
    if is_classifier:
        tensors |= {ours: state[theirs] for theirs, ours in _HEAD.items()}
    taken = {prefix + name for name in trunk} | (set(_HEAD) if is_classifier else set())
    epoch = content.get("epoch")
    return Imported(
        code="FGKVMem's",
        method="fgkvmem",
        stage="finetune" if is_classifier else "pretrain",
        backbone=backbone["name"],
        backbone_config=backbone,
        tensors=tensors,
        left_out=[name for name in state if name not in taken],
        epoch=epoch if isinstance(epoch, int) else None,
        doubles=0,
    )


def _prefix(state: Mapping[str, Tensor]) -> str | None:
    """What stands before a trunk's names: of a pretraining `backbone.`, of a classifier nothing."""
    return next((p for p in ("backbone.", "") if any(name.startswith(p + _STEM) for name in state)), None)


def _backbone(trunk: Mapping[str, Tensor]) -> dict[str, Any]:
    """The config of a trunk, by its stem and last stage."""
    if f"{_STEM}conv1.weight" in trunk:
        return {"name": "r21d"}
    stem = trunk.get(f"{_STEM}conv.weight")
    if stem is None or "s2.pathway0_res0.branch2.a.weight" not in trunk:
        raise StageError(
            "this checkpoint of PySlowFast has none of the trunks r3d18, r21d, slow_r18; its names begin with "
            f"{', '.join(list(trunk)[:3])}"
        )
    width = stem.shape[0]
    if stem.shape[2] == 1:
        return {"name": "slow_r18", "width": width}
    # a dilated and a strided convolution have the same weights; the public code builds no strided one
    last_stage = "original" if _LONE in trunk else "dilated_first_conv"
    return {"name": "r3d18", "width": width, "last_stage": last_stage}
