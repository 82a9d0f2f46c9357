"""CARL of a few channels, and random batches for it."""

from typing import Any

import torch

from vssl.backbones.backbone_config import TinyFramesConfig
from vssl.config import build
from vssl.methods.carl import CARL
from vssl.methods.carl_config import CARLConfig
from vssl.randomness import stream

SMALL: dict[str, Any] = {
    "embedder": {
        "name": "transformer",
        "layers": 2,
        "dim": 8,
        "heads": 2,
        "ff_dim": 8,
        "fc_dims": [8, 8],
        "embedding_dim": 6,
    },
    "proj_dim": 6,
    "block": 4,
}
VIDEOS, SLOTS, SIDE = 2, 6, 32


def tiny(seed: int = 0, **knobs: Any) -> CARL:
    config = build(CARLConfig, SMALL | knobs)
    return CARL.from_config(config, TinyFramesConfig(width=2), global_batch_size=VIDEOS, seed=seed)


def batch(number: int = 0, views: int = 2, context: int = 1, videos: int = VIDEOS, side: int = SIDE) -> dict[str, Any]:
    generator = stream("batch", number)
    lengths = torch.randint(2 * SLOTS, 40, (videos,), generator=generator)
    steps = torch.stack(
        [torch.randperm(int(n), generator=generator)[:SLOTS].sort().values for n in lengths for _ in range(views)]
    ).view(videos, views, SLOTS)
    steps[0, 0, -1] = lengths[0]  # masked
    clips = torch.randn(videos, views, 3, SLOTS * context, side, side, generator=generator)
    return {
        "streams": {"rgb": clips},
        "steps": steps,
        "lengths": lengths,
        "labels": torch.zeros(videos),
        "frame_labels": steps % 3 - 1,
    }
