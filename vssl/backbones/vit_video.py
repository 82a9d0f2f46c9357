"""Vision transformers over video: TimeSformer and ViViT, which differ in what a patch is and in who attends to whom.

Tokens of a clip stand in one row, the class token first, then patch by patch all of its frames: 1 + patch * t + frame.
Where frames are rows of their own, a row is the class token and the patches of one frame. A frame is a tubelet of
`tubelet_size` source frames.

Sources: TimeSformer (Bertasius et al., ICML 2021, arXiv:2102.05095); ViViT (Arnab et al., ICCV 2021, arXiv:2103.15691);
where the papers are silent, the public code VideoTransformer-pytorch.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vssl.backbones.backbone_config import VideoAttention
from vssl.backbones.positions import resized_positions, resized_times, sines_and_cosines
from vssl.config import ConfigError
from vssl.nn.drop_path import DropPath

_MLP_RATIO = 4
_TABLE_STD = 0.02  # of class token and learned tables


class VideoTransformer(nn.Module):
    """(B, 3, T, H, W) -> (B, embed_dim, 1, 1, 1): the class token after the last block, or the mean of the others.

    Attention is divided (each patch over time, then each frame over space), joint (all tokens of a clip), over the
    space of each frame alone (frames are averaged after the last block), or factorised: a spatial encoder over frames,
    then a temporal encoder over one token per frame. Without a head, at 224 pixels: TimeSformer of 8 frames 121,258,752
    parameters divided, 85,804,800 joint, 85,798,656 in space alone; ViViT of 16 frames 121,848,576 divided, 86,394,624
    joint, 114,746,880 factorised.

    Args:
        attention: who attends to whom.
        embed_dim, depth, num_heads: D, number of blocks, heads of each attention.
        patch_size: side of a patch, pixels.
        tubelet_size: source frames of a patch; 1 is TimeSformer.
        num_frames: T, source frames of a clip.
        image_size: side of the frames that the position table is made for, pixels.
        temporal_depth: blocks of the temporal encoder, of factorised attention.
        positions: learned tables, or fixed sines and cosines, which are in no checkpoint.
        time_init: what a learned time table starts as. At zero, and with the temporal projections at zero, a divided
            network starts as the image network that its weights came from; the public code's newer half draws it.
        pooled: `class` token, or mean of the `patches`.
    """

    pos_embed: Tensor  # (1, 1 + p, D)
    time_embed: Tensor  # (1, t, D), of a factorised encoder one more for the class token; space alone has none

    def __init__(
        self,
        *,
        attention: VideoAttention,
        embed_dim: int,
        depth: int,
        num_heads: int,
        patch_size: int,
        tubelet_size: int,
        num_frames: int,
        image_size: int,
        temporal_depth: int = 4,
        positions: Literal["learned", "fixed"] = "learned",
        time_init: Literal["zero", "normal"] = "zero",
        pooled: Literal["class", "patches"] = "class",
    ) -> None:
        super().__init__()
        self.num_features = embed_dim
        self.attention = attention
        self.pooled = pooled
        tube = (tubelet_size, patch_size, patch_size)
        self.patch_embed = nn.Conv3d(3, embed_dim, kernel_size=tube, stride=tube)
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        frames = num_frames // tubelet_size
        sizes = {"pos_embed": 1 + (image_size // patch_size) ** 2}
        if attention != "space_only":  # of the factorised encoder, for the class token too
            sizes["time_embed"] = frames + (attention == "fact_encoder")
        for name, size in sizes.items():
            if positions == "learned":
                self.register_parameter(name, nn.Parameter(torch.empty(1, size, embed_dim)))
            else:
                self.register_buffer(name, sines_and_cosines(size, embed_dim)[None], persistent=False)
        if attention == "divided_space_time":
            blocks = [DividedBlock(embed_dim, num_heads, frames, share) for share in _rising(depth)]
            self.blocks = nn.ModuleList(blocks)
        else:
            self.blocks = nn.ModuleList(Block(embed_dim, num_heads, share) for share in _rising(depth))
        if attention == "fact_encoder":
            self.temporal_blocks = nn.ModuleList(
                Block(embed_dim, num_heads, share) for share in _rising(temporal_depth)
            )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self._draw(time_init if positions == "learned" else None)

    def forward(self, clips: Tensor) -> Tensor:
        tokens = self.tokens(clips)
        for block in self.blocks:
            tokens = block(tokens)
        if self._rows_are_frames:
            tokens = torch.unflatten(tokens, 0, (len(clips), -1))  # (B, t, 1 + p, D)
            tokens = self._over_time(tokens) if self.attention == "fact_encoder" else tokens.mean(dim=1)
        tokens = self.norm(tokens)
        pooled: Tensor = tokens[:, 0] if self.pooled == "class" else tokens[:, 1:].mean(dim=1)
        return pooled[:, :, None, None, None]

    def tokens(self, clips: Tensor) -> Tensor:
        """What the first block sees: (B, 1 + p t, D), or where rows are frames (B t, 1 + p, D).

        Raises:
            ConfigError: frames are not whole patches, or more or fewer than the time table has.
        """
        self._refuse_misfits(clips)
        maps: Tensor = self.patch_embed(clips)  # (B, D, t, h, w)
        positions = resized_positions(self.pos_embed, *maps.shape[-2:])  # (1, 1 + p, D)
        first = (self.cls_token + positions[:, :1]).expand(len(maps), -1, -1)  # (B, 1, D)
        patches = maps.flatten(3).permute(0, 2, 3, 1) + positions[:, 1:]  # (B, t, p, D)
        if self._rows_are_frames:
            each = first[:, None].expand(-1, patches.shape[1], -1, -1)
            return torch.cat([each, patches], dim=2).flatten(0, 1)
        patches = patches + self.time_embed[:, :, None]
        return torch.cat([first, patches.transpose(1, 2).flatten(1, 2)], dim=1)

    @torch.no_grad()
    def class_attention(self, clips: Tensor) -> Tensor:
        """(B, t, num_heads, h, w): the share of its attention that the class token gives to each patch.

        Of the last block that looks at space. Shares of a frame, and with joint attention of all frames together, sum
        to what the class token does not give to itself.
        """
        seen: list[Tensor] = []
        last: Attention = self.blocks[-1].space.attention  # type: ignore[union-attr, assignment]
        hook = last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            self(clips)
        finally:
            hook.remove()
        (tube, side, _), (height, width) = self.patch_embed.weight.shape[2:], clips.shape[-2:]
        shares = last.shares(seen[0])[:, :, 0, 1:]  # (rows, heads, patches)
        frames = clips.shape[2] // tube
        if self.attention == "joint_space_time":
            by_frame = torch.unflatten(shares, 2, (-1, frames)).permute(0, 3, 1, 2)  # (B, t, heads, p)
        else:
            by_frame = torch.unflatten(shares, 0, (-1, frames))
        return torch.unflatten(by_frame, 3, (height // side, width // side))

    def adapted(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state of a network of another size, with its position and time tables resized to this one's."""
        found, own = dict(tensors), self.state_dict()
        if "pos_embed" in found and "pos_embed" in own:
            side = round((own["pos_embed"].shape[1] - 1) ** 0.5)
            found["pos_embed"] = resized_positions(found["pos_embed"], side, side)
        if "time_embed" in found and "time_embed" in own:
            first = int(self.attention == "fact_encoder")  # the class token's time stays
            times = resized_times(found["time_embed"][:, first:], own["time_embed"].shape[1] - first)
            found["time_embed"] = torch.cat([found["time_embed"][:, :first], times], dim=1)
        return found

    def layer_of(self, name: str) -> int:
        """Of a parameter: 0 patches, tokens and tables, then its block, blocks over time after those over space."""
        kind, _, rest = name.partition(".")
        if kind == "norm":
            return 1 + len(self.blocks) + (len(self.temporal_blocks) if self.attention == "fact_encoder" else 0)
        if kind not in ("blocks", "temporal_blocks"):
            return 0
        return 1 + int(rest.split(".")[0]) + (len(self.blocks) if kind == "temporal_blocks" else 0)

    @property
    def _rows_are_frames(self) -> bool:
        return self.attention in ("space_only", "fact_encoder")

    def _over_time(self, tokens: Tensor) -> Tensor:
        """Temporal encoder: (B, t, 1 + p, D) -> (B, 1 + t, D).

        The class token is that of the clip's own first frame. The public code takes the first B of all B t, which are
        other clips' for all but the first. No option brings that back: an output would depend on its neighbours in a
        batch, and of one clip both are the same. Tests alone replay the original's numbers.
        """
        sequence = torch.cat([tokens[:, 0, :1], tokens[:, :, 1:].mean(dim=2)], dim=1) + self.time_embed
        for block in self.temporal_blocks:
            sequence = block(sequence)
        return sequence

    def _refuse_misfits(self, clips: Tensor) -> None:
        (tube, side, _), (frames, height, width) = self.patch_embed.weight.shape[2:], clips.shape[2:]
        if frames % tube or height % side or width % side:
            raise ConfigError(
                f"clips of {frames} frames of {height}x{width} do not divide into patches of {tube} frames and "
                f"{side}x{side} pixels; set data.num_frames to a multiple of {tube}, data.crop_size to one of {side}"
            )
        if self.attention == "space_only":
            return
        known = (self.time_embed.shape[1] - (self.attention == "fact_encoder")) * tube
        if frames != known:
            raise ConfigError(
                f"clips have {frames} frames and the network's time table is of {known}; set backbone.num_frames to "
                f"{frames}, or data.num_frames to {known}"
            )

    def _draw(self, time_init: str | None) -> None:
        nn.init.kaiming_normal_(self.patch_embed.weight, nonlinearity="relu")
        nn.init.zeros_(self.patch_embed.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.cls_token, std=_TABLE_STD)  # published as truncated, at 100 deviations
        if time_init is None:
            return
        nn.init.normal_(self.pos_embed, std=_TABLE_STD)
        if self.attention != "space_only":
            nn.init.normal_(self.time_embed, std=_TABLE_STD if time_init == "normal" else 0.0)


class Block(nn.Module):
    """Attention of all tokens of a row, then a perceptron; each has `share` of the network's drop path."""

    def __init__(self, dim: int, num_heads: int, share: float = 1.0) -> None:
        super().__init__()
        self.space = RowAttention(dim, num_heads, share)
        self.ffn = Perceptron(dim, share)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.ffn(self.space(tokens))
        return output


class DividedBlock(nn.Module):
    """Attention over time, then over space, then a perceptron. The last attention alone sees the class token."""

    def __init__(self, dim: int, num_heads: int, frames: int, share: float = 1.0) -> None:
        super().__init__()
        self.time = AxisAttention(dim, num_heads, frames, share, axis="time", sees_class=False)
        self.space = AxisAttention(dim, num_heads, frames, share, axis="space", sees_class=True)
        self.ffn = Perceptron(dim, share)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.ffn(self.space(self.time(tokens)))
        return output


class RowAttention(nn.Module):
    """x + attention(norm(x)), of (rows, n, D)."""

    def __init__(self, dim: int, num_heads: int, share: float = 1.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads)
        self.drop_path = DropPath(share)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = tokens + self.drop_path(self.attention(self.norm(tokens)))
        return output


class AxisAttention(nn.Module):
    """x + attention(norm(x)) of (B, 1 + p t, D) along one axis: `time` of each patch, or `space` of each frame.

    The class token is copied to every row and leaves as the mean over them, or it is not seen and passes untouched.
    Time without it has a projection of its own after it, zero at first, so that a new block adds nothing.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        frames: int,
        share: float = 1.0,
        *,
        axis: Literal["time", "space"],
        sees_class: bool,
    ) -> None:
        super().__init__()
        self.frames, self.axis, self.sees_class = frames, axis, sees_class
        self.norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads)
        self.drop_path = DropPath(share)
        self.temporal_fc = None
        if axis == "time" and not sees_class:
            self.temporal_fc = nn.Linear(dim, dim)
            nn.init.zeros_(self.temporal_fc.weight)
            nn.init.zeros_(self.temporal_fc.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        first, patches = tokens[:, :1], tokens[:, 1:]
        rows = torch.unflatten(patches, 1, (-1, self.frames))  # (B, p, t, D)
        if self.axis == "space":
            rows = rows.transpose(1, 2)
        if self.sees_class:
            rows = torch.cat([first[:, None].expand(-1, rows.shape[1], -1, -1), rows], dim=2)
        read = self.drop_path(self.attention(self.norm(rows.flatten(0, 1))))
        added: Tensor = torch.unflatten(read, 0, rows.shape[:2])
        if self.temporal_fc is not None:
            added = self.temporal_fc(added)
        if self.sees_class:
            first = first + added[:, :, 0].mean(dim=1, keepdim=True)
            added = added[:, :, 1:]
        if self.axis == "space":
            added = added.transpose(1, 2)
        return torch.cat([first, patches + added.flatten(1, 2)], dim=1)


class Perceptron(nn.Module):
    """x + fc2(gelu(fc1(norm(x))))."""

    def __init__(self, dim: int, share: float = 1.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.drop_path = DropPath(share)
        self.fc1 = nn.Linear(dim, _MLP_RATIO * dim)
        self.fc2 = nn.Linear(_MLP_RATIO * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = tokens + self.drop_path(self.fc2(F.gelu(self.fc1(self.norm(tokens)))))
        return output


class Attention(nn.Module):
    """Multi-head self-attention of (rows, n, D); queries, keys and values come from one layer, in this order."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        read = F.scaled_dot_product_attention(*self._heads(tokens))  # (rows, heads, n, D / heads)
        output: Tensor = self.proj(read.transpose(1, 2).flatten(2))
        return output

    def shares(self, tokens: Tensor) -> Tensor:
        """(rows, heads, n, n): what each token takes of each, rows sum to 1; `forward` never makes this matrix."""
        query, key, _ = self._heads(tokens)
        scores: Tensor = query @ key.mT / query.shape[-1] ** 0.5
        return scores.softmax(dim=-1)

    def _heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three times (rows, heads, n, D / heads)."""
        query, key, value = torch.unflatten(self.qkv(tokens), 2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value


def _rising(depth: int) -> list[float]:
    """Shares of the drop path: none in the first block, all of it in the last.

    The public code draws it row by row, of a patch over time or of a frame; here a sample's rows go together.
    """
    return [number / max(1, depth - 1) for number in range(depth)]
