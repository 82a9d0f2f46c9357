"""The rule by which the weights and the clip of the original's full-size networks are drawn: golden file 18."""

import re
import zlib

import numpy as np
import torch
from torch import Tensor

from tests.goldens import golden

FULL = golden("18_full_backbones", "vtransformer")


def by_rule(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """The weights of file 18: drawn from the name of each tensor."""
    found = {}
    for name, shape in shapes.items():
        drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape) * 0.02
        found[name] = torch.from_numpy(drawn.astype(np.float32)) + (len(shape) == 1 and name.endswith("weight"))
    return found


def clip_by_rule(frames: int, side: int) -> Tensor:
    """(1, 3, T, H, W): the input of file 18."""
    (seed,) = re.findall(r"input = RandomState\((\d+)\)", str(FULL["rule"]))
    drawn = np.random.RandomState(int(seed)).standard_normal((1, frames, 3, side, side)).astype(np.float32)
    return torch.from_numpy(drawn).transpose(1, 2)
