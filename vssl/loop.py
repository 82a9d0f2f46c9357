"""The training loop of every method: one step after another, interruptible anywhere, resumable bit by bit."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from vssl import checkpoint
from vssl.device import autocast
from vssl.distributed import all_gather_object, all_reduce_sum, any_true, barrier, is_main, world_size
from vssl.methods import Position
from vssl.optim import gradient_norm, set_learning_rate, set_weight_decay
from vssl.run import Run, StageError, Stopped
from vssl.stages.runtime_config import RuntimeConfig


class Loader(Protocol):
    """Batches as a function of (epoch, step in the epoch), the same on any number of ranks and loader processes."""

    steps_per_epoch: int
    replaced: list[str]  # videos that broke, as far as this rank has met them

    def batches(self, epoch: int, start_step: int) -> Iterator[Mapping[str, Any]]: ...


class Tally(Protocol):
    """Counts something while a method trains. All ranks call; its state is part of the checkpoint."""

    def end_epoch(self) -> dict[str, float]:
        """Figures of the epoch that ends, equal on all ranks; the next epoch begins at nothing."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def train(
    method: Any,
    optimizer: torch.optim.Optimizer,
    loader: Loader,
    run: Run,
    *,
    lr_at: Callable[[int], float],
    weight_decay_at: Callable[[int], float] | None = None,
    clip: Callable[[torch.optim.Optimizer], Tensor] = gradient_norm,
    epochs: int,
    schedule_epochs: int | None = None,
    runtime: RuntimeConfig,
    device: torch.device,
    identity: str,
    watch: Callable[[int], Mapping[str, float]] = lambda epochs: {},
    tally: Tally | None = None,
) -> None:
    """Train to the end, from the newest checkpoint if there is one. The last update is always saved.

    A journal row of step s holds the loss and lr of the update from s to s + 1 updates, the epoch, `grad_norm`, the
    length of the gradients before they are clipped, what the method reports, in fp16 `skipped` (1 where a gradient
    overflowed, has no length, and there was no update), and under `perf/` what depends on the machine; all but the
    latter is the same in every repetition. The last row of an epoch also holds the figures of `tally`.

    Args:
        method: an nn.Module that satisfies `vssl.methods.Method`; on `device` already.
        optimizer: over the method's trainable parameters.
        loader: training batches.
        run: the stage's execution.
        lr_at: updates made -> learning rate of the next one.
        weight_decay_at: updates made -> weight decay of the next one; None: the optimiser's own.
        clip: returns the length of an update's gradients, and may shorten them; they are those of the loss, whatever
            half precision scaled them by.
        epochs: passes over the data.
        schedule_epochs: length of what varies over training, where it is longer than the training.
        runtime: precision and cadence.
        device: where to train.
        identity: what checkpoints belong to, see `vssl.checkpoint.identity`.
        watch: epochs done -> figures of the method as it stands, for the row of the next step. Called before each
            epoch by all ranks; changes nothing, and may raise `Stopped`.
        tally: counts what the method does, and reports once an epoch.

    Raises:
        Stopped: some rank was asked to stop; everything needed to go on is saved.
        StageError: the loss is not finite, or no checkpoint can be used.
    """
    steps_per_epoch = loader.steps_per_epoch
    total = epochs * steps_per_epoch
    scaler = torch.amp.GradScaler(device.type, enabled=runtime.amp == "fp16")
    parts = {"method": method, "optimizer": optimizer, "scaler": scaler} | ({"tally": tally} if tally else {})
    step = _resume(run, parts, loader, identity)
    network = DistributedDataParallel(method) if world_size() > 1 else method
    method.train()
    saved_at = time.monotonic()
    while step < total:
        epoch, start_step = divmod(step, steps_per_epoch)
        try:
            noticed = dict(watch(epoch)) if start_step == 0 else {}
        except Stopped:
            if step:
                _save(run, step, parts, loader, identity)
            raise
        with closing(_timed(loader.batches(epoch, start_step))) as batches:
            for batch, perf in batches:
                position = Position(
                    step=step, epoch=epoch, steps_per_epoch=steps_per_epoch, epochs=schedule_epochs or epochs
                )
                lr = lr_at(step)
                set_learning_rate(optimizer, lr)
                if weight_decay_at is not None:
                    set_weight_decay(optimizer, weight_decay_at(step))
                with autocast(runtime, device):
                    loss, scalars = network(batch, position)
                values = _mean_over_ranks({"loss": loss.detach(), **scalars})
                if not math.isfinite(values["loss"]):
                    raise StageError(_not_finite(values["loss"], step, lr))

                optimizer.zero_grad(set_to_none=True)
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                method.before_update(position)
                length = clip(optimizer)
                overflowed = _update(scaler, optimizer)
                if scaler.is_enabled():
                    values["skipped"] = float(overflowed)
                if overflowed and is_main():
                    run.say(
                        f"step {step}: a gradient overflowed in half precision; no update, and the loss is scaled by "
                        f"{scaler.get_scale():g} from now on"
                    )
                method.after_update(position)
                step += 1

                counted = tally.end_epoch() if tally and step % steps_per_epoch == 0 else {}
                if is_main():
                    if position.step % runtime.log_every == 0 or step == total or noticed or counted or overflowed:
                        row = values | noticed | counted | {"lr": lr, "epoch": epoch}
                        if not overflowed:
                            row["grad_norm"] = float(length)
                        run.log(position.step, row | perf(len(batch["labels"])))
                    run.beat(step, total)
                noticed = {}
                stop, due = any_true(run.should_stop(), is_main() and _is_due(runtime, step, saved_at))
                if stop or due or step == total:
                    _save(run, step, parts, loader, identity)
                    saved_at = time.monotonic()
                if stop:
                    raise Stopped(f"stopped and saved at step {step} of {total}")
        if is_main():
            figures = "".join(f", {name.replace('_', ' ')} {value:.1f}" for name, value in counted.items())
            run.say(f"epoch {epoch + 1} of {epochs}: {step} of {total} steps, loss {values['loss']:.4f}{figures}")


def _update(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> bool:
    """Make the update, unless some gradient overflowed in half precision: whether one did. The same on all ranks."""
    if not scaler.is_enabled():
        optimizer.step()
        return False
    before = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    return scaler.get_scale() < before


def _resume(run: Run, parts: Mapping[str, Any], loader: Loader, identity: str) -> int:
    """Put everything back as it was at the newest checkpoint; the number of updates it had seen."""
    found = checkpoint.resume(run, identity=identity)
    if found is None:
        return 0
    for name, part in parts.items():
        if name != "tally" or name in found.state:  # earlier versions had none: it then counts the rest of the epoch
            part.load_state_dict(found.state[name])
    loader.replaced = list(found.state["replaced"])
    if is_main():
        run.say(f"resuming {run.dir.name} at step {found.manifest.step}")
    return found.manifest.step


def _save(run: Run, step: int, parts: Mapping[str, Any], loader: Loader, identity: str) -> None:
    """All ranks call, because states may be gathered; rank 0 writes, and nobody goes on before it has."""
    state = {name: part.state_dict() for name, part in parts.items()}
    state["replaced"] = replaced_over_ranks(loader)
    if is_main():
        checkpoint.save(run, step, state, world_size=world_size(), identity=identity)
    barrier()


def replaced_over_ranks(loader: Loader) -> list[str]:
    """Names of the videos that broke and were replaced, each once. All ranks call."""
    return list(dict.fromkeys(name for names in all_gather_object(loader.replaced) for name in names))


def _is_due(runtime: RuntimeConfig, step: int, saved_at: float) -> bool:
    by_steps = runtime.save_every_steps > 0 and step % runtime.save_every_steps == 0
    return by_steps or time.monotonic() - saved_at >= 60 * runtime.save_every_min


def _mean_over_ranks(scalars: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Plain numbers, averaged over ranks in one collective."""
    values = torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in _on_one_device(scalars)])
    return dict(zip(scalars, (all_reduce_sum(values) / world_size()).tolist(), strict=True))


def _on_one_device(scalars: Mapping[str, Tensor | float]) -> list[Tensor]:
    tensors = [value for value in scalars.values() if isinstance(value, Tensor)]
    return [torch.as_tensor(value).detach().to(tensors[0].device) for value in scalars.values()]


Perf = Callable[[int], dict[str, float]]


def _timed(batches: Iterator[Mapping[str, Any]]) -> Generator[tuple[Mapping[str, Any], Perf], None, None]:
    """Each batch with a function from its size on this rank to the machine's figures of the step it went into."""
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        came = time.perf_counter()

        def perf(size: int, asked: float = asked, came: float = came) -> dict[str, float]:
            now = time.perf_counter()
            return {
                "perf/data_wait_share": (came - asked) / (now - asked),
                "perf/clips_per_s": size * world_size() / (now - asked),
            }

        yield batch, perf


def _not_finite(loss: float, step: int, lr: float) -> str:
    return (
        f"the loss is {loss} at step {step} with learning rate {lr:g}; lower optim.base_lr, or set runtime.amp=off "
        "if it is fp16 (the last checkpoint is from before)"
    )
