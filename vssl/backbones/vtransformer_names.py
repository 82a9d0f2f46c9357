"""Names of parameters in VideoTransformer-pytorch (TimeSformer, ViViT, MaskFeat's MViT) and here. Torch-free.

The public code names its blocks as MMAction does, of which image networks in that layout are read by the same rules.
"""

import re
from collections.abc import Iterable

from vssl.backbones.renaming import Rules, renamed

_TRANSFORMER: Rules = (
    (r"in_proj_", "qkv."),  # of released files; later code has qkv and proj
    (r"out_proj\.", "proj."),
    (r"^patch_embed\.projection\.", "patch_embed."),
    (r"^transformer_layers\.1\.layers\.", "temporal_blocks."),
    (r"^transformer_layers\.(0\.)?layers\.", "blocks."),
    (r"\.norms\.0\.", ".attentions.0.norm."),  # of image networks
    (r"\.norms\.1\.", ".ffn.norm."),
    (r"\.ffns\.0\.norm\.", ".ffn.norm."),
    (r"\.ffns\.0\.layers\.0\.0\.", ".ffn.fc1."),
    (r"\.ffns\.0\.layers\.1\.", ".ffn.fc2."),
    (r"\.attn\.", ".attention."),
)
_MVIT: Rules = (
    (r"^patch_embed\.patch_model\.", "conv_proj."),
    (r"^mvit\.cls_positional_encoding\.cls_token$", "pos_encoding.class_token"),
    (r"^mvit\.cls_positional_encoding\.pos_embed_(spatial|temporal|class)$", r"pos_encoding.\1_pos"),
    (r"^mvit\.norm_embed\.", "norm."),
    (r"^mvit\.blocks\.", "blocks."),
    (r"\.attn\.proj\.", ".attn.project.0."),
    (r"\.attn\.pool_([qkv])\.", r".attn.pool_\1.pool."),
    (r"\.attn\.norm_([qkv])\.", r".attn.pool_\1.norm_act.0."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^(blocks\.\d+)\.proj\.", r"\1.project."),
)
_SEPARATE = re.compile(r"\.attn\.([qkv])\.(weight|bias)$")


def own_names(names: Iterable[str]) -> dict[str, str]:
    """Name in a TimeSformer's or a ViViT's state dict -> name here. A second attention of a block looks at space."""
    known = list(names)
    divided = any(".attentions.1." in name for name in known)
    found = {}
    for name in known:
        own = renamed(name, _TRANSFORMER)
        own = own.replace(".attentions.0.", ".time." if divided else ".space.").replace(".attentions.1.", ".space.")
        found[name] = own
    return found


def own_mvit_name(name: str) -> tuple[str, str | None]:
    """Name here of a tensor of MaskFeat's MViT, and whether it is `q`, `k` or `v` of what is one tensor here."""
    part = _SEPARATE.search(name)
    if part:
        name = _SEPARATE.sub(r".attn.qkv.\2", name)
    return renamed(name, _MVIT), part[1] if part else None
