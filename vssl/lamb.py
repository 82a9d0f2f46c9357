"""LAMB: Adam whose step on each tensor has a length in proportion to the tensor's own."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class LAMB(torch.optim.Optimizer):
    """u = Adam's bias-corrected step + weight_decay * p; p <- p - lr * |p| / |u| * u.

    The ratio is 1 where either length is 0, and for groups without weight decay, which thereby take Adam's own steps.
    Tensors without gradient are left alone. A weight whose gradient is always 0 changes by the decay alone.

    Args:
        params: tensors, or groups with a `weight_decay` of their own.
        lr: learning rate.
        betas: decay of the running means of the gradient and of its square.
        eps: added to the root of the second.
        weight_decay: of groups that name none.

    Source: You et al., ICLR 2020 (arXiv:1904.00962), in the form of "ResNet strikes back" (arXiv:2110.00476), with
    which STS (Li et al., ECCV 2022) trains on images.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        mean, square = state["mean"], state["square"]
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = (square / (1 - second ** state["step"])).sqrt() + group["eps"]
        update = mean / (1 - first ** state["step"]) / root
        decay = group["weight_decay"]
        ratio: Tensor | float = 1.0
        if decay > 0:
            update += decay * parameter
            size, update_size = torch.linalg.vector_norm(parameter), torch.linalg.vector_norm(update)
            ratio = torch.where((size > 0) & (update_size > 0), size / update_size, 1.0)
        parameter.sub_(group["lr"] * ratio * update)
