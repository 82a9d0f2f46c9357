"""Optimisers, and learning rates as functions of the step."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vssl.lamb import LAMB
from vssl.optim_config import (
    AdamConfig,
    CosineConfig,
    EpochCosineConfig,
    JoinedCosineConfig,
    LAMBConfig,
    MilestonesConfig,
    OpenCosineConfig,
    OptimConfig,
    ScheduleConfig,
    WarmEpochCosineConfig,
)


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
    config: OptimConfig, params: Iterable[nn.Parameter], *, lr_scales: Mapping[nn.Parameter, float] | None = None
) -> torch.optim.Optimizer:
    """An optimiser over the parameters that can be trained; its learning rate is set anew before each step.

    Args:
        config: which one.
        params: what is trained.
        lr_scales: factors of the learning rate, of those whose factor is not 1.
    """
    scales = lr_scales or {}
    decays_all = isinstance(config, AdamConfig) or getattr(config, "decay_1d", False)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for parameter in params:
        if parameter.requires_grad:
            scale, plain = scales.get(parameter, 1.0), parameter.ndim <= 1 and not decays_all
            group = groups.setdefault((-scale, plain), {"params": [], "lr_scale": scale})
            group["params"].append(parameter)
            if plain:
                group |= {"weight_decay": 0.0, "trust": None}
    ordered = [groups[key] for key in sorted(groups)]  # of the fastest first
    if isinstance(config, AdamConfig):
        return torch.optim.Adam(ordered, lr=config.base_lr, betas=config.betas, weight_decay=config.weight_decay)
    if isinstance(config, LAMBConfig):
        return LAMB(
            ordered,
            lr=config.base_lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
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


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group this learning rate, times the group's own factor if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def learning_rate(schedule: ScheduleConfig, base_lr: float, *, step: int, epochs: int, steps_per_epoch: int) -> float:
    """Learning rate of an update.

    Args:
        schedule: its shape.
        base_lr: peak rate.
        step: updates done before this one.
        epochs: length of the schedule, which may be longer than the training.
        steps_per_epoch: updates per epoch.
    """
    if isinstance(schedule, MilestonesConfig):
        epoch = step // steps_per_epoch
        return base_lr * schedule.gamma ** sum(epoch >= milestone for milestone in schedule.milestones)
    if isinstance(schedule, OpenCosineConfig):
        return open_cosine(schedule, base_lr, epoch=step // steps_per_epoch, epochs=epochs)
    if isinstance(schedule, JoinedCosineConfig):
        return joined_cosine(schedule, base_lr, epoch=step / steps_per_epoch, epochs=epochs)
    if isinstance(schedule, EpochCosineConfig):
        warmup = schedule.warmup_epochs * steps_per_epoch
        rate = _epoch_cosine(schedule, base_lr, step, epochs, steps_per_epoch)
        return rate if step >= warmup else rate * (1 - (1 - step / warmup) * (1 - schedule.warmup_ratio))
    if isinstance(schedule, WarmEpochCosineConfig):
        epoch, start = step // steps_per_epoch, schedule.warmup_start_lr
        if epoch < schedule.warmup_epochs:
            return start + (base_lr - start) * epoch / schedule.warmup_epochs
        return _epoch_cosine(schedule, base_lr, step, epochs, steps_per_epoch)
    return _cosine(schedule, base_lr, step=step, epochs=epochs, steps_per_epoch=steps_per_epoch)


def open_cosine(schedule: OpenCosineConfig, base_lr: float, *, epoch: int, epochs: int) -> float:
    """Learning rate of a whole epoch, counted from 0."""
    warmup, start = schedule.warmup_epochs, schedule.warmup_start_lr
    if epoch < warmup:
        return start + (base_lr - start) * epoch / max(warmup - 1, 1)
    done = (epoch - warmup) / (epochs + 1 - warmup)
    return schedule.final_lr + 0.5 * (base_lr - schedule.final_lr) * (1 + math.cos(math.pi * done))


def joined_cosine(schedule: JoinedCosineConfig, base_lr: float, *, epoch: float, epochs: int) -> float:
    """Learning rate at a point of training, `epoch` passes over the data after its start (a fraction is meant)."""
    warmup = schedule.warmup_epochs
    skipped = warmup if schedule.cosine_after_warmup else 0.0

    def cosine(at: float) -> float:
        done = (at - skipped) / (epochs - skipped)
        return schedule.final_lr + 0.5 * (base_lr - schedule.final_lr) * (1 + math.cos(math.pi * done))

    if epoch >= warmup:
        return cosine(epoch)
    return schedule.warmup_start_lr + (cosine(warmup) - schedule.warmup_start_lr) * epoch / warmup


def _epoch_cosine(
    schedule: EpochCosineConfig | WarmEpochCosineConfig, base_lr: float, step: int, epochs: int, steps_per_epoch: int
) -> float:
    done = (step // steps_per_epoch) / epochs
    return schedule.final_lr + 0.5 * (base_lr - schedule.final_lr) * (1 + math.cos(math.pi * done))


def _cosine(schedule: CosineConfig, base_lr: float, *, step: int, epochs: int, steps_per_epoch: int) -> float:
    warmup = schedule.warmup_epochs * steps_per_epoch
    if step < warmup:  # reaches base_lr at its last step, and the cosine then starts there again
        done = step / (warmup - 1) if warmup > 1 else 0.0
        return schedule.warmup_start_lr + (base_lr - schedule.warmup_start_lr) * done
    done = (step - warmup) / (epochs * steps_per_epoch - warmup)
    return schedule.final_lr + 0.5 * (base_lr - schedule.final_lr) * (1 + math.cos(math.pi * done))
