"""Video transformers of a few channels, and those that the original's golden files hold."""

import json
from typing import Any

import torch
from torch import Tensor

from tests.goldens import golden, golden_tensors
from vssl.backbones.backbone_config import TimeSformerConfig, ViViTConfig
from vssl.backbones.build import build_backbone
from vssl.backbones.mvit import MViTB
from vssl.backbones.vit_video import VideoTransformer
from vssl.backbones.vtransformer_names import own_names
from vssl.config import build
from vssl.published_vtransformer import import_vtransformer
from vssl.randomness import seeded

TIMESFORMERS = ("divided_space_time", "joint_space_time", "space_only")
VIVITS = ("fact_encoder", "joint_space_time", "divided_space_time")
VARIANTS = [*(("timesformer", kind) for kind in TIMESFORMERS), *(("vivit", kind) for kind in VIVITS)]
SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "image_size": 16, "num_frames": 4}


def config(family: str, attention: str, **knobs: Any) -> Any:
    return build(
        TimeSformerConfig if family == "timesformer" else ViViTConfig, {"name": family, "attention": attention} | knobs
    )


def small(family: str, attention: str, **knobs: Any) -> VideoTransformer:
    with seeded(3):
        network = build_backbone(config(family, attention, **(SMALL | knobs)))
    assert isinstance(network, VideoTransformer)
    return network.double().eval()


def stirred(network: VideoTransformer) -> VideoTransformer:
    """With nothing left at zero, so that every path can be seen."""
    with torch.no_grad(), seeded(4):
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def clips(batch: int = 3, frames: int = 4, side: int = 16) -> Tensor:
    return torch.randn(batch, 3, frames, side, side, generator=torch.Generator().manual_seed(0)).double()


def numbers_of(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(meta, arrays in float64) of a golden file."""
    numbers = {key: tensor.double() for key, tensor in golden_tensors(name, "vtransformer").items()}
    return json.loads(str(golden(name, "vtransformer").get("meta", "{}"))), numbers


def weights(arrays: dict[str, Tensor], prefix: str = "w/") -> dict[str, Tensor]:
    """Of a file, under the names here."""
    theirs = {name.removeprefix(prefix): tensor for name, tensor in arrays.items() if name.startswith(prefix)}
    return own_weights(theirs)


def own_weights(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {own: theirs[name] for name, own in own_names(theirs).items()}
    if ours.get("patch_embed.weight", torch.empty(0)).ndim == 4:
        ours["patch_embed.weight"] = ours["patch_embed.weight"].unsqueeze(2)
    return ours


def from_meta(meta: dict[str, Any], **more: Any) -> VideoTransformer:
    sizes = {"embed_dim": "embed_dims", "depth": "layers", "num_heads": "num_heads", "patch_size": "patch"}
    knobs = {own: meta[theirs] for own, theirs in (sizes | {"image_size": "img", "num_frames": "frames"}).items()}
    attention = meta.get("attention_type", "divided_space_time")
    return VideoTransformer(**({"attention": attention, "tubelet_size": meta.get("tube", 1)} | knobs | more)).double()


def backbone_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = import_vtransformer(state).tensors
    return {name.removeprefix("backbone."): t for name, t in found.items() if name.startswith("backbone.")}


def tiny_of_file() -> tuple[MViTB, dict[str, Tensor], dict[str, Tensor]]:
    """(network with the file's weights, all of its tensors under our names, arrays) of file 13, in float64."""
    meta, arrays = numbers_of("13_maskfeat_mvit_tiny")
    state = {key.removeprefix("w/"): t for key, t in arrays.items() if key.startswith("w/")}
    network = MViTB(meta["patch_embed_dim"], meta["num_frames"], meta["img_size"]).double().eval()
    network.load_state_dict(backbone_part(state))
    return network, import_vtransformer(state).tensors, arrays
