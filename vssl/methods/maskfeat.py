"""MaskFeat: what is hidden of a clip is predicted as histograms of gradients (Wei et al., CVPR 2022)."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vssl.backbones.backbone_config import BackboneConfig
from vssl.backbones.build import build_backbone
from vssl.backbones.mvit import PATCH, MViTB
from vssl.distributed import all_reduce_sum, rank, world_size
from vssl.losses.masked_regression import masked_regression
from vssl.methods import Position
from vssl.methods.maskfeat_config import MaskFeatConfig
from vssl.nn.cube_mask import CubeMask, draw_cube_mask
from vssl.nn.hog import hog_targets
from vssl.randomness import seed_of, seeded

_TARGET = 108  # numbers of a patch: 2 x 2 cells, 3 colours, 9 directions
_LEVELS = 255 * 0.225  # levels of a pixel in one unit of a normalised clip. Targets are of contrasts and have no scale,
# so that nearly the deviation that clips were divided by is enough to know what is flat.


class MaskFeat(nn.Module):
    """Hide cubes of a clip behind a learned token, and predict what was there in the middle frame of each cube.

    Source: arXiv:2112.09133, and VideoTransformer-pytorch where it is silent. Targets are computed where the network
    is, of the frames that have some; the public code makes them in its loaders, of all frames.

    Args:
        config: the objective.
        backbone: whose tokens are predicted from.
        seed: of the masks, which are drawn for each clip of the global batch from (seed, step).
        target_dim: numbers that are predicted of a patch of one frame.
    """

    def __init__(self, config: MaskFeatConfig, backbone: MViTB, *, seed: int, target_dim: int = _TARGET) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.backbone = backbone
        self.mask_token = nn.Parameter(torch.empty(backbone.conv_proj.out_channels))
        self.decoder = nn.Linear(backbone.num_features, PATCH[0] * target_dim)
        nn.init.normal_(self.mask_token, std=0.02)
        nn.init.xavier_uniform_(self.decoder.weight)
        nn.init.zeros_(self.decoder.bias)

    @classmethod
    def from_config(
        cls, config: MaskFeatConfig, backbone_config: BackboneConfig, *, global_batch_size: int, seed: int
    ) -> "MaskFeat":
        """The method with its backbone; initial weights depend on the seed alone."""
        with seeded(seed, "weights"):
            backbone = build_backbone(backbone_config)
            assert isinstance(backbone, MViTB), "refused by the stage's config"
            return cls(config, backbone, seed=seed)

    def forward(self, batch: Mapping[str, Any], position: Position) -> tuple[Tensor, dict[str, Tensor | float]]:
        """One step's loss.

        Args:
            batch: `streams`: modality -> (B, 1, 3, T, H, W), a normalised clip of each of this rank's B videos.
            position: where training stands.

        Returns:
            Mean squared distance over the hidden patches in the middle of all ranks' cubes, and `masked_share` of the
            volume. The public code divides each rank's sum by its own count, so that ranks would count differently.
        """
        (views,) = batch["streams"].values()
        clips = views[:, 0]
        masks = self.masks(clips, position)
        hidden = torch.from_numpy(np.stack([mask.hidden for mask in masks])).to(clips.device)  # (B, t, h, w)
        prediction = self.predict(clips, hidden)
        with torch.autocast(clips.device.type, enabled=False):
            centres = [(row, frame) for row, mask in enumerate(masks) for frame in mask.centres(PATCH[0])]
            rows, frames = torch.tensor(centres, device=clips.device).unbind(1)  # (N,): clips, and frames of them
            target = hog_targets(_LEVELS * clips.transpose(1, 2)[rows, frames].float())  # (N, h, w, 108)
            weight = centre_weights(masks, hidden)[rows, frames]  # (N, h, w)
            count = all_reduce_sum(weight.sum()) / world_size()
            loss = masked_regression(prediction[rows, frames], target, weight, count)
        return loss, {"masked_share": hidden.float().mean()}

    def masks(self, clips: Tensor, position: Position) -> list[CubeMask]:
        """Of this rank's clips (B, 3, T, H, W)."""
        grid = tuple(size // step for size, step in zip(clips.shape[2:], PATCH))
        frames, patches = self.config.hides(grid)  # type: ignore[arg-type]
        first = rank() * len(clips)
        return [
            draw_cube_mask(
                grid,  # type: ignore[arg-type]
                frames=frames,
                patches=patches,
                smallest=self.config.smallest_rectangle,
                random=Random(seed_of(self.seed, position.step, "mask", first + number)),
            )
            for number in range(len(clips))
        ]

    def predict(self, clips: Tensor, hidden: Tensor) -> Tensor:
        """(B, T, h, w, D) predicted of every patch of every frame, of clips whose `hidden` (B, t, h, w) are unseen."""
        tokens = self.backbone.encoded(clips, lambda patches: self._behind_token(patches, hidden))
        with torch.autocast(clips.device.type, enabled=False):
            decoded = self.decoder(tokens[:, 1:].to(self.decoder.weight.dtype))  # (B, t h w, 2 D)
        batch, length, height, width = hidden.shape
        split: Tensor = decoded.view(batch, length, height, width, PATCH[0], -1).movedim(4, 2)  # (B, t, 2, h, w, D)
        return split.flatten(1, 2)

    def _behind_token(self, patches: Tensor, hidden: Tensor) -> Tensor:
        """Patches (B, C, t, 4 h, 4 w) with the token in place of those that are hidden; they get positions after it."""
        fine = [large // small for large, small in zip(patches.shape[-2:], hidden.shape[-2:])]
        veil = hidden.repeat_interleave(fine[0], dim=2).repeat_interleave(fine[1], dim=3).unsqueeze(1)
        return torch.where(veil, self.mask_token.view(1, -1, 1, 1, 1).to(patches.dtype), patches)

    def before_update(self, position: Position) -> None:
        """Nothing to do."""

    def after_update(self, position: Position) -> None:
        """Nothing to do."""

    def weights(self) -> dict[str, Tensor]:
        """`backbone.*` for what comes after; `mask_token` and `decoder.*` for looking at predictions."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.state_dict().items()}


def centre_weights(masks: Sequence[CubeMask], hidden: Tensor) -> Tensor:
    """(B, T, h, w): 1 for the hidden patches of the frames in the middle of cubes, else 0."""
    frames = hidden.repeat_interleave(PATCH[0], dim=1)  # (B, T, h, w)
    centres = torch.zeros(frames.shape[:2], dtype=torch.bool)
    for row, mask in enumerate(masks):
        centres[row, mask.centres(PATCH[0])] = True
    return (frames & centres.to(frames.device)[:, :, None, None]).float()
