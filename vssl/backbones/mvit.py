"""MViT-B as MaskFeat's public code builds it, of torchvision's blocks.

Sources: Fan et al., ICCV 2021 (arXiv:2104.11227); Wei et al., CVPR 2022 (arXiv:2112.09133); VideoTransformer-pytorch.
torchvision's own mvit_v1_b halves its grid once more, in block 14; here it stays at a sixteenth of the image, which is
where MaskFeat's targets are.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models.video.mvit import MSBlockConfig, MViT

from vssl.backbones.positions import resized_squares, resized_times
from vssl.config import ConfigError

NUM_BLOCKS = 16
PATCH = (2, 16, 16)  # frames and pixels that a token of the last block stands for

_POOL = [3, 3, 3]
_HALVING = (1, 3)  # blocks that halve the grid of queries, and with it what follows
_WIDENING = {0: 2, 2: 2, 13: 2}  # block -> factor, in the perceptron before a block of twice the heads


class MViTB(MViT):  # type: ignore[misc]
    """(B, 3, T, H, W) -> (B, 8 width, 1, 1, 1): the class token after 16 blocks; 36,257,856 parameters at width 96.

    There is no drop path and no dropout.

    Args:
        width: channels of the first block, and of a head; 96 as published.
        num_frames: T, even.
        image_size: H and W, a multiple of 16.
    """

    def __init__(self, width: int, num_frames: int, image_size: int) -> None:
        super().__init__(
            spatial_size=(image_size, image_size),
            temporal_size=num_frames,
            block_setting=_blocks(width),
            residual_pool=False,
            residual_with_cls_embed=False,
            rel_pos_embed=False,
            proj_after_attn=False,
            num_classes=1,
        )
        self.num_features = 8 * width
        self.head = nn.Identity()  # its own has dropout, and a classifier
        nn.init.xavier_uniform_(self.conv_proj.weight.data.flatten(1))  # as of a matrix
        for block in self.blocks:
            for pool in (block.attn.pool_q, block.attn.pool_k, block.attn.pool_v):
                if pool is not None:
                    pool.norm_act[0].eps = 1e-5  # all others: 1e-6

    def forward(self, clips: Tensor) -> Tensor:
        features: Tensor = self.encoded(clips)[:, 0, :, None, None, None]
        return features

    def encoded(self, clips: Tensor, change: Callable[[Tensor], Tensor] = lambda patches: patches) -> Tensor:
        """All tokens: (B, 1 + T/2 H/16 W/16, 8 width), the class token first, then frame by frame and row by row.

        Args:
            clips: (B, 3, T, H, W).
            change: what happens to patches (B, width, T/2, H/4, W/4) before they get their positions.

        Raises:
            ConfigError: clips of another size than the position tables have.
        """
        patches: Tensor = self.conv_proj(clips)
        grid = (self.pos_encoding.temporal_size, *self.pos_encoding.spatial_size)
        if tuple(patches.shape[2:]) != grid:
            frames, height, width = (size * step for size, step in zip(grid, (2, 4, 4)))
            raise ConfigError(
                f"clips are of {'x'.join(map(str, clips.shape[2:]))} and the network's position tables of "
                f"{frames}x{height}x{width}; set backbone.num_frames and backbone.image_size to the clips' size"
            )
        tokens: Tensor = self.pos_encoding(change(patches).flatten(2).transpose(1, 2))
        for block in self.blocks:
            tokens, grid = block(tokens, grid)
        output: Tensor = self.norm(tokens)
        return output

    def adapted(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state of a network of another size, with its position tables resized to this one's."""
        found = dict(tensors)
        space, time = "pos_encoding.spatial_pos", "pos_encoding.temporal_pos"
        if space in found:
            found[space] = resized_squares(found[space][None], *self.pos_encoding.spatial_size)[0]
        if time in found:
            found[time] = resized_times(found[time][None], self.pos_encoding.temporal_size)[0]
        return found

    def layer_of(self, name: str) -> int:
        """Of a parameter: 0 patches, tokens and tables, 1 to 16 its block, 17 what follows."""
        kind, _, rest = name.partition(".")
        return 1 + int(rest.split(".")[0]) if kind == "blocks" else NUM_BLOCKS + 1 if kind == "norm" else 0


def _blocks(width: int) -> list[MSBlockConfig]:
    settings, heads = [], 1
    for number in range(NUM_BLOCKS):
        wider = heads * _WIDENING.get(number, 1)
        step = 8 if number == 0 else 4 if number < 3 else 2  # of keys and values, so that their grid is 7 x 7 of 224
        settings.append(
            MSBlockConfig(
                num_heads=heads,
                input_channels=width * heads,
                output_channels=width * wider,
                kernel_q=_POOL if number in _HALVING else [],
                stride_q=[1, 2, 2] if number in _HALVING else [],
                kernel_kv=_POOL,
                stride_kv=[1, step, step],
            )
        )
        heads = wider
    return settings
