"""Schedules: learning rate and weight decay of each step. Pure functions of the step."""

import math
from collections.abc import Callable

from vssl.optim_config import (
    AdamWConfig,
    CosineConfig,
    EpochCosineConfig,
    EpochEndCosineConfig,
    JoinedCosineConfig,
    MilestonesConfig,
    OpenCosineConfig,
    OptimConfig,
    ScheduleConfig,
    WarmEpochCosineConfig,
)


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
    if isinstance(schedule, EpochEndCosineConfig):
        return epoch_end_cosine(schedule, base_lr, epoch=step // steps_per_epoch, epochs=epochs)
    if isinstance(schedule, JoinedCosineConfig):
        return joined_cosine(schedule, base_lr, epoch=step / steps_per_epoch, epochs=epochs)
    if isinstance(schedule, EpochCosineConfig):
        warmup = schedule.warmup_epochs * steps_per_epoch
        rate = _half_cosine(base_lr, schedule.final_lr, (step // steps_per_epoch) / epochs)
        return rate if step >= warmup else rate * (1 - (1 - step / warmup) * (1 - schedule.warmup_ratio))
    if isinstance(schedule, WarmEpochCosineConfig):
        epoch, start = step // steps_per_epoch, schedule.warmup_start_lr
        if epoch < schedule.warmup_epochs:
            return start + (base_lr - start) * epoch / schedule.warmup_epochs
        return _half_cosine(base_lr, schedule.final_lr, epoch / epochs)
    return _cosine(schedule, base_lr, step=step, epochs=epochs, steps_per_epoch=steps_per_epoch)


def open_cosine(schedule: OpenCosineConfig, base_lr: float, *, epoch: int, epochs: int) -> float:
    """Learning rate of a whole epoch, counted from 0."""
    warmup, start = schedule.warmup_epochs, schedule.warmup_start_lr
    if epoch < warmup:
        return start + (base_lr - start) * epoch / max(warmup - 1, 1)
    done = (epoch - warmup) / (epochs + 1 - warmup)
    return _half_cosine(base_lr, schedule.final_lr, done)


def joined_cosine(schedule: JoinedCosineConfig, base_lr: float, *, epoch: float, epochs: int) -> float:
    """Learning rate at a point of training, `epoch` passes over the data after its start (a fraction is meant)."""
    warmup = schedule.warmup_epochs
    skipped = warmup if schedule.cosine_after_warmup else 0.0

    def cosine(at: float) -> float:
        done = (at - skipped) / (epochs - skipped)
        return _half_cosine(base_lr, schedule.final_lr, done)

    if epoch >= warmup:
        return cosine(epoch)
    return schedule.warmup_start_lr + (cosine(warmup) - schedule.warmup_start_lr) * epoch / warmup


def epoch_end_cosine(schedule: EpochEndCosineConfig, base_lr: float, *, epoch: int, epochs: int) -> float:
    """Learning rate of an epoch, counted from 0."""
    ended, warmup = epoch + 1, schedule.warmup_epochs
    if ended <= warmup:
        return base_lr * ended / warmup
    done = (ended - warmup) / (epochs - warmup)
    return _half_cosine(base_lr, schedule.final_lr, done)


def _cosine(schedule: CosineConfig, base_lr: float, *, step: int, epochs: int, steps_per_epoch: int) -> float:
    warmup = schedule.warmup_epochs * steps_per_epoch
    if step < warmup:  # reaches base_lr at its last step, and the cosine then starts there again
        done = step / (warmup - 1) if warmup > 1 else 0.0
        return schedule.warmup_start_lr + (base_lr - schedule.warmup_start_lr) * done
    done = (step - warmup) / (epochs * steps_per_epoch - warmup)
    return _half_cosine(base_lr, schedule.final_lr, done)


def weight_decay_of(config: OptimConfig, epochs: int, steps_per_epoch: int) -> Callable[[int], float] | None:
    """Updates made -> weight decay of the next one, a value for each epoch; None where it is constant."""
    if not isinstance(config, AdamWConfig) or config.weight_decay_end is None:
        return None
    first, last = config.weight_decay, config.weight_decay_end
    return lambda step: _half_cosine(first, last, step // steps_per_epoch / epochs)


def _half_cosine(first: float, last: float, done: float) -> float:
    """From the first value to the last, at a share of the way."""
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * done))
