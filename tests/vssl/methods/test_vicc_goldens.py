"""ViCC against recorded steps of the original."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.goldens import golden, golden_tensors
from tests.vicc_steps import Kept, Unit, at, method_on, step
from vssl.methods.vicc import ViCC
from vssl.optim import LARC, set_learning_rate

MODES: dict[str, dict[str, Any]] = {"nograd2": {"bn": "shuffle"}, "grad2": {"bn": "local", "second_view_grad": True}}


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-4, atol=1e-5)


def same_step(
    kept: Kept, method: ViCC, arrays: dict[str, torch.Tensor], prefix: str, index: tuple[int, ...] = ()
) -> None:
    found = {"loss": kept.loss, "q": kept.assignments, "output": kept.scores, "emb": kept.embeddings}
    found["gp"] = method.prototypes.weight.grad
    for key, tensor in found.items():
        same(tensor, arrays[prefix + key][index])
    assert int(kept.queue_used) == int(arrays[prefix + "used"][index])


@pytest.mark.parametrize("mode", MODES)
def test_point_02_single_loss_golden(mode: str) -> None:
    arrays = golden_tensors("single_loss")
    knobs = {"epsilon": float(arrays["eps"]), "temperature": float(arrays["temperature"])}
    for n, block in enumerate(arrays["blocks"]):
        method = method_on(
            arrays["prototypes"],
            [Unit()],
            local_batch=len(block),
            sinkhorn_iterations=int(arrays["iters"]),
            **knobs,
            **MODES[mode],
        )
        kept = step(method, rgb=block)
        same_step(kept, method, arrays, f"{mode}_", (n,))
        same(block.grad, arrays[f"{mode}_gx"][n])


def test_point_02_single_queue_golden() -> None:
    arrays = golden_tensors("single_queue")
    method = method_on(
        arrays["prototypes"], [Unit()], local_batch=int(arrays["batch"]), queue_len=int(arrays["queue_len"])
    )
    for n, block in enumerate(arrays["blocks"]):
        kept = step(method, at(n), rgb=block)
        same_step(kept, method, arrays, "", (n,))
        same(block.grad, arrays["gx"][n])
        same(torch.stack([queue.rows for queue in method.queues]), arrays["queue"][n])


def cross_cases() -> dict[str, dict[str, Any]]:
    """Name of each case in the file -> knobs: `rev` trains flow, `vfa01` assigns from views 0 and 1 alone."""
    names = [key.removesuffix("_loss") for key in golden("cross_loss") if key.endswith("_loss")]
    cases: dict[str, dict[str, Any]] = {}
    for name in names:
        direction, *views, mode = name.split("_")
        cases[name] = {"main_stream": {"fwd": "rgb", "rev": "flow"}[direction]} | MODES[mode]
        if views:
            cases[name]["views_for_assign"] = tuple(map(int, views[0].removeprefix("vfa")))
    return cases


CROSS = cross_cases()


def two_streams(clip_1: torch.Tensor, clip_2: torch.Tensor) -> dict[str, torch.Tensor]:
    """(B, 2, D) clips with axis 1 = [rgb, flow] to streams with axis 1 = clips."""
    return {name: torch.stack([clip_1[:, i], clip_2[:, i]], 1) for i, name in enumerate(("rgb", "flow"))}


def same_cross_gradients(streams: dict[str, torch.Tensor], g1: torch.Tensor, g2: torch.Tensor) -> None:
    for index, clips in enumerate(streams.values()):
        gradient = torch.zeros_like(clips) if clips.grad is None else clips.grad
        same(gradient[:, 0], g1[:, index])
        same(gradient[:, 1], g2[:, index])


@pytest.mark.parametrize("case", CROSS)
def test_point_02_cross_loss_golden(case: str) -> None:
    arrays = golden_tensors("cross_loss")
    streams = two_streams(arrays["block1"], arrays["block2"])
    knobs = {"epsilon": float(arrays["eps"]), "temperature": float(arrays["temperature"])}
    method = method_on(
        arrays["prototypes"],
        [Unit(), Unit()],
        local_batch=len(arrays["block1"]),
        sinkhorn_iterations=int(arrays["iters"]),
        **knobs,
        **CROSS[case],
    )
    kept = step(method, **streams)
    same_step(kept, method, arrays, f"{case}_")
    same_cross_gradients(streams, arrays[f"{case}_g1"], arrays[f"{case}_g2"])


def test_point_02_cross_queue_golden() -> None:
    arrays = golden_tensors("cross_queue")
    method = method_on(
        arrays["prototypes"],
        [Unit(), Unit()],
        local_batch=int(arrays["batch"]),
        queue_len=int(arrays["queue_len"]),
        main_stream="rgb",
    )
    for n in range(len(arrays["loss"])):
        streams = two_streams(arrays["block1"][n], arrays["block2"][n])
        same_step(step(method, at(n), **streams), method, arrays, "", (n,))
        same_cross_gradients(streams, arrays["g1"][n], arrays["g2"][n])
        same(torch.stack([queue.rows for queue in method.queues]), arrays["queue"][n])


@pytest.mark.parametrize("mode", MODES)
def test_point_02_train_steps_golden(mode: str) -> None:
    arrays = golden_tensors("train_steps")
    epochs, steps_per_epoch, batch = arrays["X"].shape[:3]
    layer = nn.Linear(arrays["W0"].shape[1], arrays["W0"].shape[0])
    with torch.no_grad():
        layer.weight.copy_(arrays["W0"])
        layer.bias.copy_(arrays["b0"])
    method = method_on(
        arrays["P0"],
        [Unit(layer)],
        local_batch=batch,
        queue_len=int(arrays["queue_len"]),
        queue_start_epoch=int(arrays["queue_start_epoch"]),
        freeze_prototypes_epochs=int(arrays["freeze_epochs"]),
        **MODES[mode],
    )
    larc = {
        key: float(arrays[name]) for key, name in (("momentum", "momentum"), ("weight_decay", "wd"), ("trust", "trust"))
    }
    optimizer = LARC(method.parameters(), lr=0.0, eps=1e-8, **larc)
    for n in range(epochs * steps_per_epoch):
        position = at(n, steps_per_epoch)
        set_learning_rate(optimizer, float(arrays["lr"][n]))
        kept = step(method, position, rgb=arrays["X"].flatten(0, 1)[n])
        method.before_update(position)
        optimizer.step()
        found = {"loss": kept.loss, "W": layer.weight, "b": layer.bias, "P": method.prototypes.weight}
        for key, tensor in found.items():
            expected = arrays[f"{mode}_{key}"][n].to(tensor.dtype)
            torch.testing.assert_close(tensor.detach(), expected, rtol=1e-3, atol=1e-5)
