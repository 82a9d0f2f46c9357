"""FGKVMem's rules: what the target network is, what is spared and kept, what is refused (card, section 13)."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.fgkvmem_steps import BATCH, BYOL, SMALL, clips, forward, optimiser, tiny, train, with_concepts
from tests.vicc_steps import at
from vssl.backbones.backbone_config import R2Plus1DConfig, R3D18Config, SlowR18Config, TinyConfig
from vssl.backbones.build import build_backbone
from vssl.config import ConfigError, build
from vssl.methods import Method, fgkvmem, load_method
from vssl.methods.fgkvmem import FGKVMem
from vssl.methods.fgkvmem_config import FGKVMemConfig
from vssl.nn.batchnorm import norm_layer
from vssl.optim_config import LARCConfig


@pytest.mark.parametrize("knobs", [BYOL, {}], ids=["byol", "memory"])
def test_point_06_swapping_the_clips_changes_nothing_and_cosine_is_what_is_logged(
    knobs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not knobs:  # the centre moves between the directions, so it is held still
        knobs = with_concepts(center_momentum=1.0)
    regression, cosines = fgkvmem.cosine_regression, []

    def kept(prediction: Tensor, target: Tensor, temperature: float) -> Tensor:
        cosines.append(torch.cosine_similarity(prediction, target, dim=1).mean().item())
        return regression(prediction, target, temperature)

    monkeypatch.setattr(fgkvmem, "cosine_regression", kept)
    losses = []
    for given in (clips(), clips().flip(1)):
        cosines.clear()
        loss, scalars = forward(tiny(**knobs), given=given)
        losses.append(loss.item())
        assert cosines[0] != pytest.approx(cosines[1], abs=1e-3)
        assert float(scalars["cosine"]) == pytest.approx(sum(cosines) / 2, rel=1e-5)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    if knobs == BYOL:
        assert losses[0] == pytest.approx(-2 * sum(cosines), rel=1e-5)


def test_point_07_the_target_is_the_online_network_at_first_and_its_average_then() -> None:
    method = tiny(ema_decay=0.9).double()
    optimizer = optimiser(method)
    names = [name for name, _ in method.online.named_parameters()]
    train(method, optimizer, range(1))
    average = dict(method.target.named_parameters())
    start = dict(tiny(ema_decay=0.9).double().online.named_parameters())
    for name in names:
        assert torch.equal(average[name], start[name])
    for n in (1, 2):
        old = copy.deepcopy(average)
        newest = copy.deepcopy(dict(method.online.named_parameters()))
        decay = method.ema_decay(at(n, 2))
        assert 0.9 < decay < 1
        train(method, optimizer, range(n, n + 1))
        for name in names:
            expected = decay * old[name] + (1 - decay) * newest[name]
            torch.testing.assert_close(average[name], expected, atol=1e-12, rtol=0)
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert not own & {id(parameter) for parameter in method.target.parameters()}
    assert all(not p.requires_grad and p.grad is None for p in method.target.parameters())
    assert tiny(ema_annealing=False, ema_decay=0.5).ema_decay(at(7, 2)) == 0.5


def test_point_09_norms_and_biases_of_all_parts_are_spared() -> None:
    """Trust ratio and decay are for matrices and kernels; memory, codes and dictionaries are matrices."""
    method = tiny()
    scaled, plain = optimiser(method).param_groups
    assert (scaled["trust"], plain["trust"]) == (LARCConfig().trust, None)
    assert plain["weight_decay"] == 0
    of = {id(p): name for name, p in method.named_parameters() if p.requires_grad}
    spared = {of[id(p)] for p in plain["params"]}
    assert {of[id(p)] for p in scaled["params"]} | spared == set(of.values())
    norms = {
        f"{module}.{name}"
        for module, one in method.named_modules()
        if isinstance(one, nn.modules.batchnorm._BatchNorm)
        for name, _ in one.named_parameters()
    }
    assert spared == {name for name in of.values() if name in norms or name.endswith("bias")}
    assert {"predictor.key", "predictor.value", "concepts.source.weight"} <= set(of.values()) - spared


def test_the_target_keeps_statistics_of_its_own() -> None:
    method = tiny(ema_decay=0.5)
    train(method, optimiser(method), range(3))
    online, target = dict(method.online.named_buffers()), dict(method.target.named_buffers())
    changed = [name for name in online if name.endswith("running_mean") and not torch.equal(online[name], target[name])]
    assert changed
    counts = {int(t) for name, t in target.items() if name.endswith("num_batches_tracked")}
    assert counts == {6}  # both clips of each step, one call per clip


def test_point_11_later_stages_get_the_online_trunk() -> None:
    method = tiny()
    train(method, optimiser(method), range(2))
    weights = method.weights()
    assert {name.partition(".")[0] for name in weights} == {"backbone", "projector", "predictor", "concepts"}
    fresh = build_backbone(TinyConfig(width=2))
    fresh.load_state_dict({n.removeprefix("backbone."): t for n, t in weights.items() if n.startswith("backbone.")})
    for name, tensor in method.online.backbone.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor)
    assert method.backbone is method.online.backbone


def saved(stop: int) -> tuple[dict[str, Any], dict[str, Any], list[float], dict[str, Tensor]]:
    """States of method and optimiser after so many steps; the losses of the steps up to 5, and the method then."""
    calm = tiny()
    optimizer = optimiser(calm)
    train(calm, optimizer, range(stop))
    states = copy.deepcopy((calm.state_dict(), optimizer.state_dict()))
    losses = train(calm, optimizer, range(stop, 5))
    return *states, losses, calm.state_dict()


def resumed(method_state: dict[str, Any], optimizer_state: dict[str, Any], stop: int) -> tuple[list[float], FGKVMem]:
    method = tiny(seed=9)
    optimizer = optimiser(method)
    method.load_state_dict(method_state)
    optimizer.load_state_dict(optimizer_state)
    return train(method, optimizer, range(stop, 5)), method


@pytest.mark.parametrize("stop", [1, 3])  # in the middle of an epoch of two steps
def test_resumes_bit_for_bit(stop: int) -> None:
    state, momenta, losses, expected = saved(stop)
    found, method = resumed(state, momenta, stop)
    assert found == losses
    for name, tensor in expected.items():
        assert torch.equal(method.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    "part", ["target.", "predictor.key", "predictor.value", "concepts.source.", "concepts.target", "concepts.centre"]
)
def test_a_resume_without_a_part_of_the_state_learns_something_else(part: str) -> None:
    """What the equality above rests on: no part can be left out of a checkpoint unseen."""
    state, momenta, losses, _ = saved(3)
    fresh = tiny(seed=9).state_dict()
    without = {name: fresh[name] if name.startswith(part) else tensor for name, tensor in state.items()}
    assert any(not torch.equal(without[name], tensor) for name, tensor in state.items())
    assert resumed(without, momenta, 3)[0] != losses


def test_a_resume_without_the_momentum_of_lars_learns_something_else() -> None:
    state, momenta, losses, _ = saved(3)
    found, _ = resumed(state, momenta | {"state": {}}, 3)
    assert found[0] == losses[0], "one step is the same still"
    assert found[1:] != losses[1:]


@pytest.mark.parametrize(
    ("backbone", "knobs", "millions"),
    [
        (R3D18Config(last_stage="original"), {}, 38.29),
        (R3D18Config(last_stage="original"), BYOL, 31.35),
        (R2Plus1DConfig(), {"kvmemory": {"slots": 2048}}, 25.52),
        (SlowR18Config(), {}, 32.23),
        (SlowR18Config(), {"kvmemory": {"query_layers": 1, "output_layers": 2}}, 32.30),
    ],
)
def test_published_sizes(backbone: Any, knobs: dict[str, Any], millions: float) -> None:
    with torch.device("meta"):
        trunk = build_backbone(backbone, norm_layer(None))
        method = FGKVMem(build(FGKVMemConfig, knobs), trunk)
    student = sum(p.numel() for p in method.parameters() if p.requires_grad)
    unused = 0 if knobs == BYOL else method.config.kvmemory.slots  # constants in the original that nothing reads
    assert (student + unused) / 1e6 == pytest.approx(millions, abs=0.0051)
    if knobs == {}:
        assert student - sum(p.numel() for p in method.online.parameters()) == 9_047_808


def test_spread_tells_a_collapse() -> None:
    method = tiny(**BYOL)
    _, scalars = forward(method)
    assert float(scalars["spread"]) > 0.3
    with torch.no_grad():
        for parameter in method.online.projector.parameters():
            parameter.zero_()
        method.online.projector.layers[-1].bias.fill_(1.0)
    _, scalars = forward(method)
    assert float(scalars["spread"]) == pytest.approx(0, abs=1e-6)
    assert float(scalars["target_similarity"]) == pytest.approx(1 - 1 / BATCH, abs=1e-5)


def test_half_precision_ends_at_the_trunk() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        method = tiny()
        loss, scalars = forward(method)
    assert loss.dtype == torch.float32
    assert method.concepts.centre.value.dtype == torch.float32
    assert all(torch.as_tensor(value).isfinite() for value in scalars.values())


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"kvmemory": {"slots": 10, "heads": 4}}, "slots is 10 and heads is 4"),
        ({"kvmemory": {"heads": 2}}, r"2 x 256 .* set kvmemory.value_dim to 128"),
        ({"kvmemory": {"slots": 8, "w_sparsity": 0.1}}, "sparsity_top_k is 500 and a head has 8"),
        ({"predictor": "lstm"}, "`predictor` is 'lstm'"),
        (BYOL | {"w_pred": 0}, "w_pred is 0 and no other loss with a weight teaches the backbone"),
        ({"w_pred": 0, "concepts": {"w_align": 0, "w_recon_src": 0}}, "w_pred is 0 and no other loss"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(FGKVMemConfig, knobs)


def test_method_is_found_by_name_and_keeps_the_protocol() -> None:
    method: Method = load_method("fgkvmem")(
        build(FGKVMemConfig, SMALL), TinyConfig(width=2), global_batch_size=4, seed=0
    )
    assert type(method) is FGKVMem
