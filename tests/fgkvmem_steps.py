"""FGKVMem of a few channels, random clips for it, and steps of its training."""

from typing import Any

import torch
from torch import Tensor

from tests.vicc_steps import at
from vssl.backbones.backbone_config import TinyConfig
from vssl.config import build
from vssl.methods.fgkvmem import FGKVMem
from vssl.methods.fgkvmem_config import FGKVMemConfig
from vssl.optim import build_optimizer
from vssl.optim_config import LARCConfig, SGDConfig

BATCH = 4
SMALL: dict[str, Any] = {
    "proj_dim": 8, "mlp_dim": 12, "kvmemory": {"slots": 10, "query_dim": 6, "value_dim": 8}, "concepts": {"num": 14},
}  # fmt: skip
BYOL: dict[str, Any] = {"predictor": "mlp", "concepts": None}


def tiny(seed: int = 0, **knobs: Any) -> FGKVMem:
    config = build(FGKVMemConfig, SMALL | knobs)
    return FGKVMem.from_config(config, TinyConfig(width=2), global_batch_size=BATCH, seed=seed)


def with_concepts(**knobs: Any) -> dict[str, Any]:
    return {"concepts": SMALL["concepts"] | knobs}


def clips(n: int = 0) -> Tensor:
    return torch.randn(BATCH, 2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(n))


def forward(method: FGKVMem, step: int = 0, given: Tensor | None = None) -> tuple[Tensor, dict[str, Any]]:
    x = clips(step) if given is None else given
    return method({"streams": {"rgb": x.to(next(method.parameters()).dtype)}}, at(step, 2))


def optimiser(method: FGKVMem) -> torch.optim.Optimizer:
    config = SGDConfig(base_lr=0.5, larc=LARCConfig(), nesterov=True, decay_1d=False)
    return build_optimizer(config, method.parameters())


def train(method: FGKVMem, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for n in steps:
        loss, _ = forward(method, n)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def receiving(method: FGKVMem) -> set[str]:
    """Parts (two names deep) of the method that hold a gradient other than zero."""
    return {
        ".".join(name.split(".")[:2])
        for name, parameter in method.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }


def one_direction(method: FGKVMem) -> dict[str, Tensor]:
    x = clips()
    return method.direction(*method.online(x[:, 0]), *method.target(x[:, 1]))[0]
