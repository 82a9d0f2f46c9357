"""FGKVMem's losses: what each teaches, what it weighs, and where the centre of concepts stands."""

from typing import Any

import pytest
import torch

from tests.fgkvmem_steps import BATCH, SMALL, forward, one_direction, receiving, tiny, with_concepts
from vssl.config import semantic
from vssl.losses.concepts import decorrelation
from vssl.methods.fgkvmem_config import FGKVMemConfig


def test_point_04_what_each_loss_teaches() -> None:
    encoder = {"online.backbone", "online.projector"}
    for loss, parts in {
        "loss_pred": encoder | {"predictor.key", "predictor.value", "predictor.query"},
        "loss_recon_src": encoder | {"concepts.source", "concepts.source_dictionary"},
        "loss_recon_tgt": {"concepts.target", "concepts.target_dictionary"},
        "loss_align": encoder | {"concepts.source"},
    }.items():
        method = tiny()
        one_direction(method)[loss].backward()
        assert receiving(method) == parts, loss
    assert all(parameter.grad is None for parameter in method.target.parameters())


def test_a_weight_of_zero_leaves_its_loss_and_what_it_teaches_out() -> None:
    method = tiny(**with_concepts(w_recon_src=0, w_recon_tgt=0))
    assert set(one_direction(method)) == {"loss_pred", "loss_align"}
    method = tiny(**with_concepts(w_align=0))
    assert set(one_direction(method)) == {"loss_pred", "loss_recon_src", "loss_recon_tgt"}
    for weights in ({"w_recon_src": 0, "w_recon_tgt": 0}, {"w_align": 0}, {"w_recon_src": 0, "w_align": 0}):
        method = tiny(**with_concepts(**weights))
        forward(method)[0].backward()
        idle = [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
        assert not idle, weights
    method = tiny(kvmemory=SMALL["kvmemory"] | {"w_sparsity": 0.1, "sparsity_top_k": 3})
    assert "loss_sparsity" in one_direction(method)


@pytest.mark.parametrize("weight", [0.0, 2.5])
def test_the_weight_of_the_prediction(weight: float) -> None:
    expected, scalars = forward(tiny())
    loss, found = forward(tiny(w_pred=weight))
    torch.testing.assert_close(loss, expected + (weight - 1) * 2 * scalars["loss_pred"])
    assert found["cosine"] == scalars["cosine"]


@pytest.mark.parametrize("knobs", [{}, {"predictor": "mlp"}], ids=["memory", "mlp"])
def test_without_prediction_the_predictor_learns_nothing_but_to_look_up_little(knobs: dict[str, Any]) -> None:
    sparse = {"kvmemory": SMALL["kvmemory"] | {"w_sparsity": 0.1, "sparsity_top_k": 3}}
    for memory, parts in (({}, set()), (sparse, set() if knobs else {"predictor.query", "predictor.key"})):
        method = tiny(w_pred=0, **knobs, **memory)
        forward(method)[0].backward()
        assert {name for name in receiving(method) if name.startswith("predictor")} == parts
        assert "online.backbone" in receiving(method)
        assert not [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("part", ["key", "value"])
def test_slots_that_are_alike_cost_as_much_as_they_are_asked_to(part: str) -> None:
    plain, _ = forward(tiny())
    for w_pred in (1, 0):
        method = tiny(w_pred=w_pred, kvmemory=SMALL["kvmemory"] | {f"w_{part}_decorrelation": 0.3})
        loss, scalars = forward(method)
        loss.backward()
        alike = decorrelation(getattr(method.predictor, part))
        torch.testing.assert_close(torch.as_tensor(scalars[f"loss_{part}_decorrelation"]), alike.detach())
        expected = plain + 2 * (0.3 * alike + (w_pred - 1) * scalars["loss_pred"])
        torch.testing.assert_close(loss, expected)
        assert f"predictor.{part}" in receiving(method)
        assert not [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert not [name for name in semantic(FGKVMemConfig())["kvmemory"] if "decorrelation" in name]


def test_point_05_the_centre_moves_in_training_alone() -> None:
    method = tiny()
    assert not method.concepts.centre.value.any()
    method.eval()
    _, scalars = forward(method)
    assert not method.concepts.centre.value.any()
    assert not [name for name in scalars if "recon" in name or "align" in name]
    method.train()
    _, scalars = forward(method)
    assert method.concepts.centre.value.any()
    assert {"loss_recon_src", "loss_recon_tgt", "loss_align", "concept_entropy"} <= set(scalars)


@pytest.mark.parametrize("scale", [1.0, 0.0, -1.0, -0.125])
def test_the_centre_is_taken_off_or_added_by_the_sign_of_its_scale(scale: float) -> None:
    """-1 adds the mean of the target's codes, as the paper writes; the public code takes it off."""
    concepts = tiny(**with_concepts(center_scale=scale)).concepts
    z, target_z = torch.randn(2, BATCH, 8, generator=torch.Generator().manual_seed(0))
    features = torch.zeros(BATCH, concepts.source_dictionary.layers[-1].out_features)
    with torch.no_grad():
        concepts.target.weight.mul_(20)  # codes that differ
    concepts(features, z, features, target_z)
    terms, _ = concepts(features, z, features, target_z)
    codes, target_codes = concepts.source(z), concepts.target(target_z)
    shares = torch.softmax((target_codes - scale * 0.1 * target_codes.mean(dim=0)) / 0.05, dim=1)
    expected = -(shares * torch.log_softmax(codes / 0.05, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(terms["loss_align"], expected)
