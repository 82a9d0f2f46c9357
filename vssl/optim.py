"""Optimisers, and what they are told before a step."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vssl.lamb import LAMB
from vssl.optim_config import AdamConfig, AdamWConfig, LAMBConfig, OptimConfig

# last part of the names of tokens and position tables, of vssl's transformers and of torchvision's MViT
_TABLES = frozenset({"cls_token", "pos_embed", "mask_token", "class_token", "class_pos", "spatial_pos", "temporal_pos"})


class LARC(torch.optim.SGD):
    """SGD with momentum on gradients scaled per tensor to the size of the tensor itself.

    For a tensor p with gradient g, both non-zero: g <- (g + wd p) * trust |p| / (|g| + wd |p| + eps). Otherwise g is
    used as it is and without weight decay, so biases that start at zero take their first step at the full learning
    rate. Tensors without gradient are left alone. The scaled gradient enters the momentum. A group whose `trust` is
    None takes the steps of plain SGD.

    Source: You et al. 2017, arXiv:1708.03888, in the form of apex's LARC(clip=False), which ViCC and SwAV use. With
    nesterov and 1-D tensors in a group without trust it is the LARS of PySlowFast, which FGKVMem uses.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        trust: float,
        eps: float,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov)  # SGD's own weight decay stays 0
        for group in self.param_groups:
            group.setdefault("trust", trust)
            group |= {"larc_weight_decay": weight_decay, "eps": eps}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and group["trust"] is not None:
                    parameter.grad.copy_(self._scaled(parameter, parameter.grad, group))
        loss: float | None = super().step(closure)
        return loss

    @staticmethod
    def _scaled(parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        decay = group["larc_weight_decay"]
        size, gradient_size = parameter.norm(), gradient.norm()
        rate = group["trust"] * size / (gradient_size + decay * size + group["eps"])
        both = (size != 0) & (gradient_size != 0)  # decided on the device: no tensor is waited for
        return torch.where(both, (gradient + decay * parameter) * rate, gradient)


def build_optimizer(
    config: OptimConfig,
    params: Iterable[nn.Parameter],
    *,
    lr_scales: Mapping[nn.Parameter, float] | None = None,
    tables: Iterable[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """An optimiser over the parameters that can be trained; its learning rate is set anew before each step.

    Args:
        config: which one.
        params: what is trained.
        lr_scales: factors of the learning rate, of those whose factor is not 1.
        tables: those that are treated like 1-D tensors: see `tokens_and_positions`.
    """
    scales, flat = lr_scales or {}, set(tables)
    decays_all = isinstance(config, AdamConfig) or getattr(config, "decay_1d", False)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for parameter in params:
        if parameter.requires_grad:
            scale, plain = scales.get(parameter, 1.0), (parameter.ndim <= 1 or parameter in flat) and not decays_all
            group = groups.setdefault((-scale, plain), {"params": [], "lr_scale": scale})
            group["params"].append(parameter)
            if plain:
                group |= {"weight_decay": 0.0, "trust": None, "decays": False}
    ordered = [groups[key] for key in sorted(groups)]  # of the fastest first
    if isinstance(config, AdamConfig):
        return torch.optim.Adam(ordered, lr=config.base_lr, betas=config.betas, weight_decay=config.weight_decay)
    if isinstance(config, LAMBConfig):
        return LAMB(ordered, lr=config.base_lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay)
    if isinstance(config, AdamWConfig):
        return torch.optim.AdamW(
            ordered, lr=config.base_lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay
        )
    common: dict[str, Any] = {
        "lr": config.base_lr,
        "momentum": config.momentum,
        "weight_decay": config.weight_decay,
        "nesterov": config.nesterov,
    }
    if config.larc is None:
        return torch.optim.SGD(ordered, **common)
    return LARC(ordered, **common, trust=config.larc.trust, eps=config.larc.eps)


def tokens_and_positions(network: nn.Module) -> list[nn.Parameter]:
    """Learned tokens and position tables of a network; the times of TimeSformer and ViViT, which decay, are not."""
    return [parameter for name, parameter in network.named_parameters() if name.rpartition(".")[2] in _TABLES]


def layer_rates(network: nn.Module, layer_of: Callable[[str], int], decay: float) -> dict[nn.Parameter, float]:
    """Factors of the learning rate: 1 in the highest layer, `decay` times that in the one below, and so on.

    Args:
        network: the backbone.
        layer_of: name of a parameter -> its layer, from 0.
        decay: above 0, at most 1.

    Source: Clark et al., ICLR 2020 (arXiv:2003.10555), as BEiT and MaskFeat have it.
    """
    layers = {parameter: layer_of(name) for name, parameter in network.named_parameters()}
    return {parameter: decay ** (max(layers.values()) - layer) for parameter, layer in layers.items()}


def clip_of(config: OptimConfig) -> Callable[[torch.optim.Optimizer], Tensor]:
    """What measures the gradients of an update, and shortens them where they may not have any length."""
    if config.clip_norm is None:
        return gradient_norm
    return partial(clip_gradients, limit=config.clip_norm, each=config.clip_by == "tensor")


def clip_gradients(optimizer: torch.optim.Optimizer, limit: float, *, each: bool) -> Tensor:
    """Scale an optimiser's gradients down to this length: all together, or `each` by itself.

    All together they end at the limit itself, as LAMB's do in STS; torch's function, which VideoTransformer-pytorch
    calls for each by itself, ends a millionth below.

    Returns:
        Their length before, all together.
    """
    parameters = _with_gradient(optimizer)
    if each:
        return nn.utils.get_total_norm([nn.utils.clip_grad_norm_(parameter, limit) for parameter in parameters])
    length = gradient_norm(optimizer)
    scale = (limit / length).clamp(max=1)  # on the device: nothing is waited for
    for parameter in parameters:
        parameter.grad.mul_(scale)
    return length


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Length of an optimiser's gradients, all together; 0 of none."""
    return nn.utils.get_total_norm([parameter.grad for parameter in _with_gradient(optimizer)])


def _with_gradient(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def set_weight_decay(optimizer: torch.optim.Optimizer, decay: float) -> None:
    """Give every parameter group that decays this weight decay; the original gives it to its second group alone."""
    for group in optimizer.param_groups:
        if group.get("decays", True):
            group["weight_decay"] = decay


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group this learning rate, times the group's own factor if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
