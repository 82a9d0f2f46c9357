"""ViCC on two gloo ranks: the original's recorded numbers, and a single process."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests.gloo import run_ranks
from tests.goldens import golden_tensors
from tests.vicc_steps import Unit, at, method_on, step
from vssl.backbones.backbone_config import TinyConfig
from vssl.distributed import rank, world_size
from vssl.losses.swapped_prediction import sinkhorn
from vssl.methods import vicc
from vssl.methods.vicc import ViCC
from vssl.methods.vicc_config import ViCCConfig
from vssl.optim import build_optimizer
from vssl.optim_config import LARCConfig, SGDConfig


def _recorded_steps() -> dict[str, Any]:
    arrays = golden_tensors("distributed")
    found: dict[str, list[Tensor]] = {key: [] for key in ("loss", "q", "gx", "gp_local", "queue")}
    batch = arrays["blocks"].shape[2]
    queue_len = int(arrays["queue_len"]) * world_size()
    sizes = {"local_batch": batch, "global_batch": batch * world_size()}
    method = method_on(arrays["prototypes"], [Unit()], queue_len=queue_len, **sizes)
    for n, blocks in enumerate(arrays["blocks"]):
        block = blocks[rank()].clone()
        kept = step(method, at(n), rgb=block)
        values = (kept.loss, kept.assignments, block.grad, method.prototypes.weight.grad)
        for key, value in zip(found, (*values, torch.stack([queue.rows for queue in method.queues]))):
            found[key].append(value)
    balanced = [sinkhorn(arrays[f"sk{i}"][rank()], 0.05, 3) for i in range(int(arrays["n_sk"]))]

    recorded = arrays["bn_idx_unshuffle"][0].argsort()
    vicc.shuffle_order = lambda length, seed, step: recorded
    layer = nn.BatchNorm1d(arrays["blocks"].shape[-1], affine=False, track_running_stats=False)
    shuffled = step(method_on(arrays["prototypes"], [Unit(layer)], **sizes), rgb=arrays["blocks"][0][rank()].clone())
    stacked = {key: torch.stack(values) for key, values in found.items()}
    return stacked | {"sk": balanced, "bn_loss": shuffled.loss, "bn_emb": shuffled.embeddings}


def test_point_02_distributed_golden() -> None:
    arrays = golden_tensors("distributed")
    ranks = run_ranks(_recorded_steps, int(arrays["world"]))
    for r, found in enumerate(ranks):
        for key in ("loss", "q", "gx", "gp_local", "queue", "bn_emb", "bn_loss"):
            torch.testing.assert_close(found[key], arrays[key][r].to(found[key].dtype), rtol=1e-4, atol=1e-5)
        for i, balanced in enumerate(found["sk"]):
            torch.testing.assert_close(balanced, arrays[f"sk{i}_q"][r], rtol=1e-4, atol=1e-5)
    assert not torch.equal(ranks[0]["queue"], ranks[1]["queue"])


BATCH, STEPS, STOP = 4, 6, 4
CASES: dict[str, dict[str, Any]] = {
    "sync": {"bn": "sync", "bn_group_size": None},
    "sync, both clips learn": {"bn": "sync", "bn_group_size": None, "second_view_grad": True},
    "local": {"bn": "local", "bn_group_size": 2},
    "shuffle": {"bn": "shuffle", "bn_group_size": 2},
    "shuffle, both clips learn": {"bn": "shuffle", "bn_group_size": 2, "second_view_grad": True},
    "shuffle, groups within a rank": {"bn": "shuffle", "bn_group_size": 1},
    "cross": {"main_stream": "flow", "bn": "shuffle", "bn_group_size": 2},
}


def build(knobs: dict[str, Any]) -> ViCC:
    config = ViCCConfig(
        **{"proj_dim": 8, "num_prototypes": 6, "queue_len": 8, "queue_start_epoch": 1, "freeze_prototypes_epochs": 1},
        **knobs,
    )
    return ViCC.from_config(config, TinyConfig(width=2), global_batch_size=BATCH, seed=3)


def train(knobs: dict[str, Any], state: dict[str, Any] | None = None) -> dict[str, Any]:
    """Train on this rank's part of each global batch, from the start or from a state of any number of ranks."""
    method = build(knobs)
    optimizer = build_optimizer(SGDConfig(larc=LARCConfig()), method.parameters())
    first = 0
    if state is not None:
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        first = STOP
    parallel = DistributedDataParallel(method) if world_size() > 1 else method
    kept: dict[str, Any] = {"loss": [], "entropy": [], "gradients": []}
    local = BATCH // world_size()
    for n in range(first, STEPS):
        if n == STOP:
            kept["state"] = {"method": _copied(method.state_dict()), "optimizer": _copied(optimizer.state_dict())}
        streams = {}
        for number, name in enumerate(("rgb", "flow") if method.config.main_stream else ("rgb",)):
            generator = torch.Generator().manual_seed(1000 * number + n)
            clips = torch.randn(BATCH, 2, 3, 4, 16, 16, generator=generator)
            streams[name] = clips[rank() * local : (rank() + 1) * local]
        optimizer.zero_grad()
        loss, scalars = parallel({"streams": streams}, at(n, 2))
        loss.backward()
        method.before_update(at(n, 2))
        gradients = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
        optimizer.step()
        kept["loss"].append(loss.item())
        kept["entropy"].append(torch.stack([scalars["assignment_entropy"], scalars["score_entropy"]]))
        kept["gradients"].append(gradients)
    kept["final"] = _copied(method.state_dict())
    return kept


def _copied(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list) else state


def _train_all() -> dict[str, Any]:
    return {case: train(knobs) for case, knobs in CASES.items()}


@pytest.fixture(scope="module")
def two_ranks() -> list[dict[str, Any]]:
    return run_ranks(_train_all, 2)


def same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one(case: str, two_ranks: list[dict[str, Any]]) -> None:
    one, first, second = train(CASES[case]), two_ranks[0][case], two_ranks[1][case]
    same([sum(losses) / 2 for losses in zip(first["loss"], second["loss"])], one["loss"])
    same(first["gradients"], one["gradients"])
    same(second["gradients"], one["gradients"])
    for found in (first, second):  # scalars speak of the global batch on every rank
        same(found["entropy"], one["entropy"])
    same(first["final"], one["final"])  # running statistics and queues included
    assert one["final"]["_extra_state"]["queues"].shape == (4 if case == "cross" else 2, 8, 8)
    assert torch.equal(second["final"]["_extra_state"]["queues"], first["final"]["_extra_state"]["queues"])


@pytest.mark.parametrize("case", CASES)
def test_saved_on_two_ranks_and_resumed_on_one(case: str, two_ranks: list[dict[str, Any]]) -> None:
    calm = train(CASES[case])
    resumed = train(CASES[case], two_ranks[0][case]["state"])
    same(resumed["loss"], calm["loss"][STOP:])
    same(resumed["final"], calm["final"])


def _refused() -> str:
    try:
        build({"bn": "local", "bn_group_size": 4})
    except ValueError as error:
        return str(error)
    return ""


def test_a_split_that_would_change_the_result_is_refused_with_those_that_fit() -> None:
    assert "does not split over 2 ranks; it does over 1" in run_ranks(_refused, 2)[0]
    assert not dist.is_initialized()
