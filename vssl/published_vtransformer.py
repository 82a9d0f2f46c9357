"""Checkpoints of VideoTransformer-pytorch (TimeSformer, ViViT, MaskFeat), under this project's names.

A file of Lightning holds `state_dict` with the network under `model.` and its classifier under `cls_head.cls_head.`;
bare state dicts are read as well. Sizes are read from the tensors. In none is the number of heads of TimeSformer and
ViViT: a head is taken to be of 64 features, as in all that is published.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vssl.backbones.vtransformer_names import own_mvit_name, own_names
from vssl.published import Imported, state_of
from vssl.run import StageError

_HEAD = re.compile(r"^(?:cls_head\.)+(weight|bias)$")
_VIDEO = (  # image networks in this layout have norms.0 in their place
    "transformer_layers.layers.0.attentions.0.norm.weight",
    "transformer_layers.0.layers.0.attentions.0.norm.weight",
)
_MVIT = "mvit.blocks.0.norm1.weight"
_HEAD_DIM = 64
# backbone -> source frames from one frame of a clip to the next, and what colours are normalised by, in its training
_CLIPS = {"timesformer": (32, "half"), "vivit": (16, "kinetics"), "mvit_b": (4, "kinetics")}


def is_vtransformer(content: Any) -> bool:
    """Whether what a file holds looks like a checkpoint of the public code, or its bare state dict."""
    return isinstance(content, Mapping) and any(sign in state_of(content, prefix="model.") for sign in (*_VIDEO, _MVIT))


def import_vtransformer(content: Mapping[str, Any]) -> Imported:
    """Translate a checkpoint, or its bare state dict.

    Raises:
        StageError: a tensor of the network has no name here, or one of its parts is not in the file.
    """
    state = state_of(content, prefix="model.")
    head = {f"head.linear.{match[1]}": state[name] for name in state if (match := _HEAD.match(name))}
    trunk = {name: tensor for name, tensor in state.items() if not _HEAD.match(name)}
    if _MVIT in trunk:
        tensors, backbone = _mvit(trunk)
        stage = "pretrain" if "decoder.weight" in tensors and not head else "finetune"
    else:
        tensors, backbone = _transformer(trunk)
        stage = "finetune"
    epoch = content.get("epoch")
    return Imported(
        code="VideoTransformer-pytorch's",
        method="vtransformer",
        stage=stage,
        backbone=backbone["name"],
        backbone_config=backbone,
        clips=_clips(backbone),
        tensors=tensors | head,
        left_out=[],
        epoch=epoch if isinstance(epoch, int) else None,
        doubles=0,
    )


def _clips(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """What a network of this config was trained to see; the defaults are of files whose tables are not in them."""
    stride, statistics = _CLIPS[backbone["name"]]
    return {
        "num_frames": backbone.get("num_frames", 16 if backbone["name"] == "vivit" else 8),
        "frame_stride": stride,
        "crop_size": backbone.get("image_size", 224),
        "sampling": {"name": "linspace"},
        "statistics": statistics,
    }


def _transformer(trunk: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    own = {name: trunk[theirs] for theirs, name in own_names(trunk).items()}
    is_vivit = own["patch_embed.weight"].ndim == 5
    if not is_vivit:
        own["patch_embed.weight"] = own["patch_embed.weight"].unsqueeze(2)
    dim, _, tube, side, _ = own["patch_embed.weight"].shape
    if any(name.startswith("temporal_blocks.") for name in own):
        attention = "fact_encoder"
    elif any(".time." in name for name in own):
        attention = "divided_space_time"
    else:
        attention = "joint_space_time" if "time_embed" in own else "space_only"
    config: dict[str, Any] = {
        "name": "vivit" if is_vivit else "timesformer",
        "attention": attention,
        "embed_dim": dim,
        "depth": _count(own, "blocks."),
        "num_heads": max(1, dim // _HEAD_DIM),
        "patch_size": side,
        "positions": "learned" if "pos_embed" in own else "fixed",
    }
    if is_vivit:
        config["tubelet_size"] = tube
    if attention == "fact_encoder":
        config["temporal_depth"] = _count(own, "temporal_blocks.")
    if "time_embed" in own:
        config["num_frames"] = tube * (own["time_embed"].shape[1] - (attention == "fact_encoder"))
    if "pos_embed" in own:
        config["image_size"] = side * round((own["pos_embed"].shape[1] - 1) ** 0.5)
    return {f"backbone.{name}": tensor for name, tensor in own.items()}, config


def _mvit(trunk: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    found: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for theirs, tensor in trunk.items():
        if theirs == "mask_token":
            found["mask_token"] = tensor.flatten()
        elif theirs.startswith("decoder_pred."):
            found[theirs.replace("decoder_pred.", "decoder.")] = tensor
        else:
            name, part = own_mvit_name(theirs)
            if part:
                parts.setdefault(name, {})[part] = tensor
            elif name.startswith("pos_encoding."):  # those of the class are vectors here
                found[f"backbone.{name}"] = tensor.flatten() if ".class_" in name else tensor[0]
            else:
                found[f"backbone.{name}"] = tensor
    for name, three in parts.items():
        if set(three) != {"q", "k", "v"}:
            raise StageError(f"{name} is to be made of q, k and v, and the file has {', '.join(sorted(three))} alone")
        found[f"backbone.{name}"] = torch.cat([three[part] for part in "qkv"])
    return found, {
        "name": "mvit_b",
        "width": len(found["backbone.conv_proj.weight"]),
        "num_frames": 2 * len(found["backbone.pos_encoding.temporal_pos"]),
        "image_size": 4 * round(len(found["backbone.pos_encoding.spatial_pos"]) ** 0.5),
    }


def _count(own: Mapping[str, Tensor], prefix: str) -> int:
    """Blocks of an encoder."""
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in own if name.startswith(prefix))
