"""The rule by which the weights of STS's golden networks are made: of role and shape alone."""

import re
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from tests.goldens import FOLDER


def shifts() -> tuple[int, int]:
    """SALT and XK of the golden set, as its README says; 0 and 0 of the set that lies in this repository."""
    readme = FOLDER / "sts" / "README.md"
    found = re.search(r"SALT = (\d+), XK = (\d+)", readme.read_text()) if readme.is_file() else None
    return (int(found[1]), int(found[2])) if found else (0, 0)


@cache
def by_rule(count: int, k: int) -> Tensor:
    """(count,) numbers in [0, 1)."""
    wave = np.abs(np.sin(12.9898 * np.arange(1, count + 1) + 0.37 * k)) * 43758.5453
    return torch.from_numpy(wave - np.floor(wave))


def clip(shape: tuple[int, ...]) -> Tensor:
    _, shift = shifts()
    return ((2 * by_rule(int(np.prod(shape)), 7 + shift) - 1) * np.sqrt(3)).view(shape)


@torch.no_grad()
def set_by_rule(network: nn.Module) -> None:
    salt, _ = shifts()
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            shape = tuple(module.weight.shape)
            drawn = by_rule(int(np.prod(shape)), len(shape) + salt).view(shape)
            scale = np.sqrt((6 if len(shape) == 5 else 3) / np.prod(shape[1:]))
            module.weight.copy_((2 * drawn - 1) * scale)
            if module.bias is not None:
                module.bias.copy_((by_rule(len(module.bias), 1 + salt) - 0.5) * 0.2)
        elif isinstance(module, nn.BatchNorm3d):
            count = module.num_features
            assert module.running_mean is not None
            assert module.running_var is not None
            module.weight.copy_(0.2 + 0.3 * by_rule(count, 2 + salt))
            module.bias.copy_((by_rule(count, 3 + salt) - 0.5) * 0.2)
            module.running_mean.copy_((by_rule(count, 4 + salt) - 0.5) * 0.2)
            module.running_var.copy_(0.5 + by_rule(count, 6 + salt))
