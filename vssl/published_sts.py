"""Checkpoints of the public code of STS (github.com/UCSC-VLAA/Image-Pretraining-for-Video), under this project's names.

Files of its pre-training on images begin with `get_feature.`, those of its fine-tuning with `backbone.`; inside a
backbone the names are the same here. Whether a network was fine-tuned with STS convolutions no file says.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vssl.published import Imported, state_of
from vssl.run import StageError

_HEAD = {  # of images and of videos; of X3D `classifier` and `fc2` are the last layer
    "classifier": "linear",
    "fc1": "hidden",
    "cls_head.fc_cls": "linear",
    "cls_head.fc1": "hidden",
    "cls_head.fc2": "linear",
}
_WIDTH_STEMS = ("conv1.conv.weight", "slow_path.conv1.conv.weight", "conv1_s.conv.weight", "conv1.conv.conv_t.weight")


def is_sts(content: Any) -> bool:
    """Whether what a file holds looks like a checkpoint of the public code, or its bare state dict."""
    return isinstance(content, Mapping) and _prefix(state_of(content)) is not None


def import_sts(content: Mapping[str, Any]) -> Imported:
    """Translate a checkpoint, or its bare state dict.

    The classifier of SlowFast's images reads the slow path's features first; its columns are put in order.

    Raises:
        StageError: a backbone that is not known here.
    """
    state = state_of(content)
    prefix = _prefix(state)
    assert prefix is not None
    trunk = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    backbone = _backbone(trunk)
    tensors = {f"backbone.{name}": tensor for name, tensor in trunk.items()}
    left_out = []
    for name, tensor in state.items():
        layer, _, leaf = name.rpartition(".")
        if layer in _HEAD:
            tensors[f"head.{_HEAD[layer]}.{leaf}"] = tensor
        elif not name.startswith(prefix):
            left_out.append(name)
    images = prefix == "get_feature."
    if images and backbone["name"].startswith("slowfast") and "head.linear.weight" in tensors:
        slow, fast = torch.tensor_split(tensors["head.linear.weight"], [32 * backbone["width"]], dim=1)
        tensors["head.linear.weight"] = torch.cat([fast, slow], dim=1)
    epoch = content.get("epoch")
    return Imported(
        code="STS's",
        method="sts",
        stage="image_pretrain" if images else "finetune",
        backbone=backbone["name"],
        backbone_config=backbone,
        tensors=tensors,
        left_out=left_out,
        epoch=epoch if isinstance(epoch, int) else None,
        doubles=0,
    )


def _prefix(state: Mapping[str, Tensor]) -> str | None:
    """What stands before a backbone's names."""
    if any(name.startswith("get_feature.") for name in state):
        return "get_feature."
    classifier = any(name.startswith("cls_head.fc") for name in state)
    return "backbone." if classifier and any(name.startswith("backbone.") for name in state) else None


def _backbone(trunk: Mapping[str, Tensor]) -> dict[str, Any]:
    """The config of a network, by its stem and the length of what joins its paths."""
    stem = next((trunk[name] for name in _WIDTH_STEMS if name in trunk), None)
    if stem is None:
        raise StageError(
            "this checkpoint of STS's public code has none of the backbones csn50, r2plus1d34, slowonly50, "
            f"slowfast50_4x16, slowfast50_8x8, x3d_s; its names begin with {', '.join(list(trunk)[:3])}"
        )
    if "conv1.conv.conv_t.weight" in trunk:
        name = "r2plus1d34"
    elif "conv1_s.conv.weight" in trunk:
        name = "x3d_s"
    elif (lateral := trunk.get("slow_path.conv1_lateral.conv.weight")) is not None:
        name = "slowfast50_8x8" if lateral.shape[2] == 7 else "slowfast50_4x16"
    else:
        name = "csn50" if "layer1.0.conv2.0.conv.weight" in trunk else "slowonly50"
    return {"name": name, "width": stem.shape[0]}
