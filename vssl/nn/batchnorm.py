"""Batch normalisation whose statistics are stated in clips, so that the number of ranks does not change a result."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vssl.config import ConfigError
from vssl.distributed import all_gather_cat, all_reduce_sum, world_size

NormLayer = Callable[[int], nn.Module]

_ALL_BUT_CHANNELS = (0, 2, 3, 4)
_MOMENTUM = 0.1  # weight of the newest statistics in the running ones


class GroupedBatchNorm3d(nn.BatchNorm3d):
    """Batch normalisation of each group of `group_size` clips on its own, as if each group were one GPU's batch.

    Running statistics follow the rank's first group. Those of rank 0 are the ones that count (data-parallel training
    hands them to the others), so over all ranks they follow the first group of the global batch, on any number of
    ranks. Names and evaluation are those of `nn.BatchNorm3d`.
    """

    def __init__(self, num_features: int, *, group_size: int) -> None:
        super().__init__(num_features, momentum=_MOMENTUM)
        self.group_size = group_size

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, t, h, w), in training B a multiple of the group size."""
        if not self.training or len(input) == self.group_size:
            return super().forward(input)
        if len(input) % self.group_size:
            raise ConfigError(
                f"a batch of {len(input)} clips per rank does not hold whole groups of {self.group_size}; choose "
                "bn_group_size so that it divides global_batch_size / ranks"
            )
        first, *others = torch.split(input, self.group_size)
        normalised = [super().forward(first)]
        normalised += [F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps) for x in others]
        return torch.cat(normalised)


class SyncBatchNorm3d(nn.BatchNorm3d):
    """Batch normalisation over the batches of all ranks, which have the same size; for CPU (gloo) and GPU ranks."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features, momentum=_MOMENTUM)

    def forward(self, input: Tensor, counted: Tensor | None = None) -> Tensor:
        """
        Args:
            input: (B, C, t, h, w).
            counted: (B,) which rows the statistics of training are taken over, on all ranks together; all rows are
                normalised by them. None: over all.
        """
        if not self.training or (counted is None and world_size() == 1):
            return super().forward(input)
        output, mean, variance, count = _SyncedNormalisation.apply(input, self.weight, self.bias, self.eps, counted)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * count / max(count - 1, 1), share)
        normalised: Tensor = output
        return normalised


class SyncBatchNorm(SyncBatchNorm3d):
    """`SyncBatchNorm3d` for tensors (N, C, ...) of any number of axes: maps of single frames, vectors."""

    def forward(self, input: Tensor, counted: Tensor | None = None) -> Tensor:
        if not self.training or (counted is None and world_size() == 1):
            return super().forward(input)
        return super().forward(input.reshape(*input.shape[:2], 1, 1, -1), counted).reshape(input.shape)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes will do."""


class _SyncedNormalisation(torch.autograd.Function):
    """Forward and backward of batch normalisation (Ioffe and Szegedy 2015) with statistics of all ranks."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, counted: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        values = _at_least_float32(x)
        mean, variance, count = _moments(values) if counted is None else _moments_of(values[counted])
        scale = torch.rsqrt(variance + eps)
        context.save_for_backward(x, weight, mean, scale, counted)
        context.count = count
        output = (values - _wide(mean)) * _wide(scale * weight) + _wide(bias)
        context.mark_non_differentiable(mean, variance)
        return output.to(x.dtype), mean, variance, count

    @staticmethod
    def backward(context: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, scale, counted = context.saved_tensors
        gradient = _at_least_float32(gradient)
        standardised = (_at_least_float32(x) - _wide(mean)) * _wide(scale)
        to_bias = gradient.sum(_ALL_BUT_CHANNELS)
        to_weight = (gradient * standardised).sum(_ALL_BUT_CHANNELS)
        over_bias, over_weight = all_reduce_sum(torch.stack([to_bias, to_weight])) / context.count
        through_mean, through_variance = _wide(over_bias), _wide(over_weight)
        if counted is not None:  # all rows were normalised, and these alone made the statistics
            made = counted.view(-1, 1, 1, 1, 1)
            through_mean, through_variance = through_mean * made, through_variance * made
        to_x = _wide(weight * scale) * (gradient - through_mean - standardised * through_variance)
        return to_x.to(x.dtype), to_weight.to(weight.dtype), to_bias.to(weight.dtype), None, None


def _moments(values: Tensor) -> tuple[Tensor, Tensor, int]:
    """(C,) mean and variance of channels over ranks that all have as many values, and how many these are together."""
    local_variance, local_mean = torch.var_mean(values, dim=_ALL_BUT_CHANNELS, correction=0)
    means, variances = all_gather_cat(torch.stack([local_mean, local_variance])[None]).unbind(1)  # (W, C) each
    mean = means.mean(0)
    variance = variances.mean(0) + (means - mean).square().mean(0)
    return mean, variance, values.numel() // len(mean) * world_size()


def _moments_of(values: Tensor) -> tuple[Tensor, Tensor, int]:
    """As `_moments`, of ranks with any number of values, also none."""
    count = values.numel() // values.shape[1]
    sums = all_reduce_sum(torch.cat([values.sum(_ALL_BUT_CHANNELS), values.new_tensor([count])]))
    total = max(int(sums[-1]), 1)
    mean = sums[:-1] / total
    return mean, all_reduce_sum((values - _wide(mean)).square().sum(_ALL_BUT_CHANNELS)) / total, total


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _wide(channels: Tensor) -> Tensor:
    return channels.view(1, -1, 1, 1, 1)


def norm_layer(group_size: int | None) -> NormLayer:
    """What a backbone calls with a number of channels: groups of so many clips, or None for the whole global batch."""
    return SyncBatchNorm3d if group_size is None else partial(GroupedBatchNorm3d, group_size=group_size)
