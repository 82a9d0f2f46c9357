"""ViCC's rules: what learns, what is frozen, what is kept."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.vicc_steps import Unit, at, method_on, step
from vssl.backbones.backbone_config import S3DConfig, TinyConfig
from vssl.config import ConfigError
from vssl.methods import Method, load_method
from vssl.methods.vicc import ViCC, world_sizes
from vssl.methods.vicc_config import ViCCConfig
from vssl.optim import build_optimizer
from vssl.optim_config import CosineConfig, LARCConfig, SGDConfig
from vssl.schedules import learning_rate

BATCH = 4


def tiny(seed: int = 0, **knobs: Any) -> ViCC:
    small = {"proj_dim": 8, "num_prototypes": 6, "queue_len": 8, "queue_start_epoch": 1, "freeze_prototypes_epochs": 0}
    config = ViCCConfig(**({"bn_group_size": BATCH} | small | knobs))
    return ViCC.from_config(config, TinyConfig(width=2), global_batch_size=BATCH, seed=seed)


def clips(n: int = 0, batch: int = BATCH) -> Tensor:
    return torch.randn(batch, 2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(n))


def both(n: int = 0) -> dict[str, Tensor]:
    return {"rgb": clips(n), "flow": clips(100 + n)}


def train(method: ViCC, optimizer: torch.optim.Optimizer, steps: range, steps_per_epoch: int = 2) -> list[float]:
    """The order of the training loop, without the loop."""
    losses = []
    for n in steps:
        position = at(n, steps_per_epoch)
        streams = {"rgb": clips(n)} if method.config.main_stream is None else both(n)
        optimizer.param_groups[0]["lr"] = learning_rate(
            CosineConfig(), 0.6, step=n, epochs=10, steps_per_epoch=steps_per_epoch
        )
        loss, _ = method({"streams": streams}, position)
        optimizer.zero_grad()
        loss.backward()
        method.before_update(position)
        optimizer.step()
        method.after_update(position)
        losses.append(loss.item())
    return losses


def larc_for(method: ViCC) -> torch.optim.Optimizer:
    return build_optimizer(SGDConfig(larc=LARCConfig()), method.parameters())


def same_bits(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_bits(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_bits, one, other))
    return bool(one == other)


def test_point_03_gradient_through_the_second_clip_is_a_choice_that_leaves_the_loss_alone() -> None:
    losses = {}
    for name, knobs, has_gradient in (
        ("shuffle", {}, False),
        ("local", {"bn": "local"}, False),
        ("shuffle with gradient", {"second_view_grad": True}, True),
        ("local with gradient", {"bn": "local", "second_view_grad": True}, True),
        ("sync with gradient", {"bn": "sync", "bn_group_size": None, "second_view_grad": True}, True),
    ):
        x = clips()
        losses[name] = step(tiny(**knobs), rgb=x).loss.item()
        assert x.grad[:, 0].abs().sum() > 0
        assert bool(x.grad[:, 1].any()) == has_gradient, name
    assert list(losses.values()) == pytest.approx([losses["local"]] * len(losses), rel=1e-5)


def test_point_04_cross_stream_trains_the_paper_s_number_of_parameters() -> None:
    with torch.device("meta"):
        method = ViCC.from_config(ViCCConfig(main_stream="rgb"), S3DConfig(), global_batch_size=96, seed=31)
    trainable = [p for p in method.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == 9_129_248
    assert sum(p.numel() for p in method.parameters()) == 18_220_096
    assert sum(p.numel() for p in method.encoders[0].parameters()) == 9_090_848


def test_point_04_second_stream_is_loaded_and_then_keeps_every_bit() -> None:
    main, second = tiny(seed=1), tiny(seed=2)
    train(main, larc_for(main), range(2))
    train(second, larc_for(second), range(2))
    method = tiny(main_stream="flow")
    method.load_streams(main.weights(), second.weights())
    assert same_bits(method.weights(), main.weights())
    before = copy.deepcopy(method.encoders[1].state_dict())
    assert same_bits({name: t for name, t in second.weights().items() if name in before}, before)
    losses = train(method.eval().train(), larc_for(method), range(5))
    assert all(map(math.isfinite, losses))
    assert same_bits(method.encoders[1].state_dict(), before)
    assert all(p.grad is None for p in method.encoders[1].parameters())
    assert not any(module.training for module in method.encoders[1].modules())
    assert not same_bits(method.encoders[0].state_dict(), main.encoders[0].state_dict())
    assert not torch.equal(method.prototypes.weight, main.weights()["prototypes.weight"])


def test_weights_of_another_network_are_refused() -> None:
    weights = tiny().weights()
    assert {name.split(".")[0] for name in weights} == {"backbone", "projector", "prototypes"}
    wide = ViCC.from_config(
        ViCCConfig(proj_dim=8, num_prototypes=6, bn_group_size=4, queue_len=0),
        TinyConfig(width=3),
        global_batch_size=4,
        seed=0,
    )
    with pytest.raises(RuntimeError, match="size mismatch"):
        wide.load_streams(weights)
    with pytest.raises(ValueError, match="argument 2 is longer"):
        tiny().load_streams(weights, weights)


def test_point_05_main_stream_flow_is_main_stream_rgb_on_exchanged_modalities() -> None:
    streams = both()
    weights, other = tiny(seed=1).weights(), tiny(seed=2).weights()
    results = []
    for main_stream, given in (
        ("rgb", streams),
        ("flow", {"rgb": streams["flow"].clone(), "flow": streams["rgb"].clone()}),
    ):
        method = tiny(main_stream=main_stream)
        method.load_streams(weights, other)
        kept = step(method, **given)
        gradients = {name: p.grad for name, p in method.named_parameters() if p.requires_grad}
        results.append([kept.loss, kept.assignments, gradients])
    assert same_bits(*results)


def test_point_06_queue_life_cycle() -> None:
    method = tiny(queue_len=12)
    used = []
    for n in range(7):
        kept = step(method, at(n, 2), rgb=clips(n))
        if n < 2:
            assert method.queues is None
            continue
        used.append(kept.queue_used)
        assert len(method.queues) == 2  # one per assigning view
        for queue, view in zip(method.queues, kept.embeddings.split(BATCH)):
            assert torch.equal(queue.rows[:BATCH], view)
            assert len(queue.rows) == 12
            assert bool(queue.rows[BATCH * (n - 1) :].any()) is False
    assert used == [False, False, False, True, True]  # from step L / B after its start on


def test_point_06_no_queue_of_length_zero_and_one_per_assigning_view() -> None:
    method = tiny(queue_len=0, queue_start_epoch=0)
    step(method, rgb=clips())
    assert method.queues == []
    restored = tiny(queue_len=0, queue_start_epoch=0)
    restored.load_state_dict(method.state_dict())
    assert restored.queues == []
    method = tiny(main_stream="rgb", views_for_assign=(2, 0), queue_start_epoch=0)
    kept = step(method, **both())
    views = kept.embeddings.split(BATCH)
    for queue, view in zip(method.queues, (views[2], views[0])):
        assert torch.equal(queue.rows[:BATCH], view)


@pytest.mark.parametrize("main_stream", [None, "rgb"])
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_point_06_resumes_bit_for_bit_with_its_queues(main_stream: str | None, stop: int, tmp_path: Path) -> None:
    calm = tiny(main_stream=main_stream)
    optimizer = larc_for(calm)
    train(calm, optimizer, range(stop))
    torch.save({"method": calm.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint.pt")
    losses = train(calm, optimizer, range(stop, 8))
    resumed = tiny(seed=9, main_stream=main_stream)
    resumed.seed = calm.seed  # the seed comes from the config; only the initial weights differ here
    fresh = larc_for(resumed)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    resumed.load_state_dict(state["method"])
    fresh.load_state_dict(state["optimizer"])
    assert train(resumed, fresh, range(stop, 8)) == losses
    assert same_bits(resumed.state_dict(), calm.state_dict())
    assert same_bits(fresh.state_dict()["state"], optimizer.state_dict()["state"])


def test_point_07_prototypes_are_unit_at_each_forward_and_frozen_at_first() -> None:
    method = tiny(freeze_prototypes_epochs=2)
    optimizer = larc_for(method)
    method.prototypes.renormalise()
    start = method.prototypes.weight.detach().clone()
    for n in range(4):
        train(method, optimizer, range(n, n + 1))
        assert torch.equal(method.prototypes.weight, start)
    train(method, optimizer, range(4, 5))
    assert not torch.equal(method.prototypes.weight, start)
    step(method, at(5, 2), rgb=clips(5))
    torch.testing.assert_close(method.prototypes.weight.detach().norm(dim=1), torch.ones(6), rtol=0, atol=1e-6)


def test_scalars_tell_collapse_from_use() -> None:
    prototypes = torch.eye(6, 8)
    method = method_on(prototypes, [Unit()], local_batch=6)
    spread = prototypes[:, None].repeat(1, 2, 1)
    _, scalars = method({"streams": {"rgb": spread}}, at(0))
    assert float(scalars["assignment_entropy"]) == pytest.approx(1.0, abs=1e-4)
    assert float(scalars["score_entropy"]) < 0.01
    orthogonal = torch.zeros(6, 2, 8)
    orthogonal[..., 7] = 1.0
    loss, scalars = method({"streams": {"rgb": orthogonal}}, at(0))
    assert float(scalars["score_entropy"]) == pytest.approx(1.0, abs=1e-5)
    assert loss.item() == pytest.approx(math.log(6), abs=1e-5)


def test_half_precision_ends_at_the_backbone() -> None:
    method = tiny(queue_start_epoch=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kept = step(method, rgb=clips())
    assert {t.dtype for t in (kept.loss, kept.assignments, kept.scores, kept.embeddings)} == {torch.float32}
    assert method.queues[0].rows.dtype == torch.float32


def test_building_leaves_the_random_state_and_weights_depend_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    one = tiny(seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert same_bits(one.weights(), tiny(seed=5).weights())
    assert not same_bits(one.weights(), tiny(seed=6).weights())


def test_splits_over_ranks() -> None:
    assert world_sizes(ViCCConfig(bn_group_size=48), 192) == [1, 2, 4]
    assert world_sizes(ViCCConfig(bn="sync", bn_group_size=None), 6) == [1, 2, 3, 6]
    with pytest.raises(ConfigError, match="does not split over 1 ranks; it does over none"):
        tiny(bn_group_size=3)


@pytest.mark.parametrize("views", [(), (0, 2), (-1,)])
def test_views_that_do_not_exist_are_refused(views: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"accepted: some of \[0, 1\]"):
        tiny(views_for_assign=views)


def test_streams_that_do_not_match_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\['flow', 'rgb'\].*main_stream=None"):
        tiny()({"streams": both()}, at(0))


def test_method_is_found_by_name_and_keeps_the_protocol() -> None:
    method: Method = load_method("vicc")(
        ViCCConfig(num_prototypes=6, bn_group_size=4, queue_len=0), TinyConfig(width=2), global_batch_size=4, seed=0
    )
    assert type(method) is ViCC
