"""A video transformer that starts as an image transformer (ViT, or the encoder of MAE), with an account of it.

Sources: TimeSformer (arXiv:2102.05095), section 4; ViViT (arXiv:2103.15691), section 3.4. In the public code `zero`
emptied the attention over space where time was meant, and normalisations and queries too, from where nothing is
learned; patches of the middle frame were lost; and nothing was said of what did not load.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vssl.backbones.image_init_config import ImageInitConfig
from vssl.backbones.misfits import first_few, misfits
from vssl.backbones.positions import resized_positions, sines_and_cosines
from vssl.backbones.vit_video import VideoTransformer
from vssl.config import ConfigError

_NO_IMAGE_HAS = ("time_embed", "blocks.*.time.temporal_fc.*")
_LAST_LAYERS = ("space.attention.proj.", "ffn.fc2.")  # of a block over time


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What became of each tensor. All that a network has is in `taken` or in `missing`."""

    taken: tuple[str, ...]
    missing: tuple[str, ...]  # left as it was drawn
    resized: tuple[str, ...]  # of those taken
    shifted: bool = False  # fixed positions are not those that the image network learned with

    def line(self) -> str:
        resized = f", {', '.join(self.resized)} resized" if self.resized else ""
        missing = f"; as drawn: {first_few(self.missing)}" if self.missing else ""
        shifted = "; positions are fixed, each one place after MAE's" if self.shifted else ""
        return f"{len(self.taken)} of {len(self.taken) + len(self.missing)} tensors taken{resized}{missing}{shifted}"


def start_from_image(network: VideoTransformer, image: Mapping[str, Tensor], config: ImageInitConfig) -> Coverage:
    """Fill a video transformer from an image transformer's tensors.

    Args:
        network: is filled; nothing is, if an error is raised.
        image: under the names of a `Block` network, as `vssl.published_vit` gives them: `cls_token`, `pos_embed`,
            `patch_embed.*` with a weight (D, 3, side, side), `blocks.<i>.space.*`, `blocks.<i>.ffn.*`, `norm.*`.
            Without positions it is MAE's, of sines and cosines, and they become the learned table. A fixed one has the
            class token at 0, where MAE has the first patch.
        config: what time starts as.

    Raises:
        ConfigError: a tensor of the network is in the image's neither directly nor by the rules above and may not be
            missing; one of the image's finds no place; a shape does not fit; or positions that the image network
            learned would give way to fixed ones.
    """
    own = network.state_dict()
    given = dict(image)
    allowed = [*_NO_IMAGE_HAS, *config.may_miss]
    if "cls_token" not in given and "pos_embed" not in given:
        allowed += ["cls_token", "pos_embed"]
    shifted = False
    if "pos_embed" not in own:  # fixed tables, which are in no checkpoint
        shifted = "cls_token" not in given and "pos_embed" not in given
        _refuse_other_positions(network.pos_embed, given.pop("pos_embed", None))
    found, resized = _translated(network, given, config)

    missing = [name for name in own if name not in found]
    problems = misfits(own, found, may_miss=allowed)
    if problems:
        raise ConfigError(
            f"the image network covers {len(own) - len(missing)} of {len(own)} tensors of the video network, which is "
            f"not all that it should: {problems}. Take the backbone's sizes from the file, or name what may be missing "
            "in image_init.may_miss"
        )
    if "pos_embed" in missing and "cls_token" not in given:
        positions = torch.zeros_like(own["pos_embed"])  # the class token's is 0, since it had none
        positions[0, 1:] = sines_and_cosines(positions.shape[1] - 1, positions.shape[2])
        found["pos_embed"] = positions
    network.load_state_dict(own | found)
    return Coverage(
        taken=tuple(name for name in own if name not in missing),
        missing=tuple(missing),
        resized=tuple(resized),
        shifted=shifted,
    )


def _refuse_other_positions(fixed: Tensor, given: Tensor | None) -> None:
    if given is None or (given.shape == fixed.shape and torch.allclose(given.to(fixed), fixed, rtol=0, atol=1e-5)):
        return
    raise ConfigError(
        "the image network has positions of its own, and backbone.positions is fixed, which would drop them; set it to "
        "learned"
    )


def _translated(
    network: VideoTransformer, image: Mapping[str, Tensor], config: ImageInitConfig
) -> tuple[dict[str, Tensor], list[str]]:
    """The image's tensors under the video network's names, and the names of those that were resized."""
    found, resized = dict(image), []
    if "patch_embed.weight" in found:
        found["patch_embed.weight"] = inflated(
            found["patch_embed.weight"], network.patch_embed.weight.shape[2], config.patch_embed
        )
    if "pos_embed" in found and found["pos_embed"].shape[1] != network.pos_embed.shape[1]:
        side = round((network.pos_embed.shape[1] - 1) ** 0.5)
        found["pos_embed"] = resized_positions(found["pos_embed"], side, side)
        resized.append("pos_embed")
    if network.attention == "divided_space_time":
        for name, tensor in image.items():
            if ".space." in name:
                found[name.replace(".space.", ".time.")] = tensor
    if network.attention == "fact_encoder":
        for name, tensor in image.items():
            number = int(name.split(".")[1]) if name.startswith("blocks.") else -1
            if 0 <= number < len(network.temporal_blocks):
                last = config.temporal == "zero" and any(part in name for part in _LAST_LAYERS)
                found[f"temporal_{name}"] = torch.zeros_like(tensor) if last else tensor
    return found, resized


def inflated(weight: Tensor, frames: int, how: str) -> Tensor:
    """(D, 3, side, side) -> (D, 3, frames, side, side), which of a still clip makes the image's patches.

    Args:
        weight: of an image's patch embedding.
        frames: of a tubelet.
        how: `average`: a share for each frame; `centre`: all for the frame in the middle, nothing for the others.
    """
    if how == "average":
        return weight.unsqueeze(2).repeat(1, 1, frames, 1, 1) / frames
    result = weight.new_zeros(*weight.shape[:2], frames, *weight.shape[2:])
    result[:, :, frames // 2] = weight
    return result
