"""Image transformers as their makers publish them, under one set of names: the blocks of `vssl.backbones.vit_video`.

Read are ViT of torchvision; of timm, which is the layout of DeiT, DINO and Meta's MAE, too; of MMAction, which
VideoTransformer-pytorch starts from; and the MAE of pengzhiliang/MAE-pytorch, without class token and positions.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vssl.backbones.renaming import Rules, renamed
from vssl.backbones.vtransformer_names import own_names
from vssl.published import Imported

_TIMM: Rules = (
    (r"^encoder\.", ""),  # MAE's
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"\.norm1\.", ".space.norm."),
    (r"\.norm2\.", ".ffn.norm."),
    (r"\.attn\.", ".space.attention."),
    (r"\.mlp\.", ".ffn."),
)
_TORCHVISION: Rules = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_", "blocks."),
    (r"^encoder\.ln\.", "norm."),
    (r"\.ln_1\.", ".space.norm."),
    (r"\.ln_2\.", ".ffn.norm."),
    (r"\.self_attention\.in_proj_", ".space.attention.qkv."),
    (r"\.self_attention\.out_proj\.", ".space.attention.proj."),
    (r"\.mlp\.(0|linear_1)\.", ".ffn.fc1."),
    (r"\.mlp\.(3|linear_2)\.", ".ffn.fc2."),
)
# what an image network has beside its trunk: classifiers, decoders, and what replaced masked patches
_BESIDE = re.compile(
    r"(head|heads|head_dist|cls_head|pre_logits|fc_norm|decoder\w*|encoder_to_decoder)\."
    r"|(decoder_pos_embed|mask_token)$"
)
_SIGNS = {
    "torchvision's": "encoder.layers.encoder_layer_0.ln_1.weight",
    "MMAction's": "transformer_layers.layers.0.norms.0.weight",
    "MAE-pytorch's": "encoder.blocks.0.norm1.weight",
    "timm's": "blocks.0.norm1.weight",
}


def is_image_vit(content: Any) -> bool:
    """Whether what a file holds looks like an image transformer in one of the layouts."""
    return isinstance(content, Mapping) and _maker(_state(content)) is not None


def import_image_vit(content: Mapping[str, Any]) -> Imported:
    """Its trunk under our names; whether a network can start from it, `vssl.backbones.image_init` finds out."""
    state = _state(content)
    maker = _maker(state)
    assert maker is not None
    left_out = [name for name in state if _BESIDE.match(name)]
    state = {name: tensor for name, tensor in state.items() if name not in left_out}
    if maker == "MMAction's":
        names = own_names(state)
    else:
        rules = _TORCHVISION if maker == "torchvision's" else _TIMM
        names = {name: renamed(name, rules) for name in state}
    tensors = _with_biases({names[name]: tensor for name, tensor in state.items()})
    return Imported(
        code=maker,
        method="vtransformer",
        stage="still-image",
        backbone="vit",
        tensors={f"backbone.{name}": tensor for name, tensor in tensors.items()},
        left_out=left_out,
        epoch=None,
        doubles=0,
    )


def _state(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors by name: of the file itself, or of what it holds under one of the usual words."""
    for word in ("state_dict", "model", "teacher"):
        if isinstance(content.get(word), Mapping):
            content = content[word]
    return {
        re.sub(r"^(module|backbone)\.", "", str(name)): tensor
        for name, tensor in content.items()
        if isinstance(tensor, Tensor)
    }


def _maker(state: Mapping[str, Tensor]) -> str | None:
    return next((maker for maker, sign in _SIGNS.items() if sign in state), None)


def _with_biases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries and values with biases of their own, and keys without, as one bias of all three."""
    found = {}
    for name, tensor in state.items():
        if name.endswith(".q_bias"):
            value = state[name.removesuffix("q_bias") + "v_bias"]
            found[name.removesuffix("q_bias") + "qkv.bias"] = torch.cat([tensor, torch.zeros_like(tensor), value])
        elif not name.endswith(".v_bias"):
            found[name] = tensor
    return found
