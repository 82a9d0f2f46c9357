"""What FGKVMem's pretraining hands to a fine-tuning and to a probe, run as stages (card, section 13, point 11)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny_source import make_source
from tests.tiny_stages import Stage, final_state, finetuning, probing, remembering, weights_of
from vssl.artifacts import Artifact
from vssl.stages import finetune, linear, pretrain
from vssl.weights import load_weights

Inputs = dict[str, tuple[Artifact, ...]]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inputs, dict[str, Tensor]]:
    """Inputs of a stage that follows, and the state of the method that they are of."""
    root = tmp_path_factory.mktemp("pretrained")
    dataset, _ = make_source(root, train=6, test=2)
    stage = Stage(pretrain.run, remembering(), {"dataset": (dataset,)}, "pretrain-memory")
    stage.execute(root)
    return {"dataset": (dataset,), "weights": weights_of(root, stage)}, final_state(root / stage.name)["method"]


def online(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix("online.backbone."): t for n, t in state.items() if n.startswith("online.backbone.")}


def trained(root: Path, function: Any, config: Any, inputs: Inputs) -> dict[str, dict[str, Tensor]]:
    """Backbone and head after a stage."""
    stage = Stage(function, config, inputs, "after")
    stage.execute(root)
    weights = load_weights(weights_of(root, stage)[0])
    return {part: weights.part(part) for part in ("backbone", "head")}


def test_point_11_finetuning_starts_from_the_online_trunk_and_a_new_classifier(pretrained, tmp_path: Path) -> None:
    """At a rate of 0 it ends where it has begun, but for running statistics; all else in the file is passed over."""
    inputs, state = pretrained
    handed = load_weights(inputs["weights"][0]).tensors
    assert {name.partition(".")[0] for name in handed} == {"backbone", "projector", "predictor", "concepts"}
    config = finetuning()
    parts = trained(tmp_path, finetune.run, replace(config, optim=replace(config.optim, base_lr=0.0)), inputs)
    expected = online(state)
    assert parts["backbone"].keys() == expected.keys()
    for name, tensor in parts["backbone"].items():
        counted = "running" in name or "num_batches" in name
        assert torch.equal(tensor, expected[name]) != counted, name
    target = {n: state[f"target.backbone.{n}"] for n in expected}
    assert any(not torch.equal(target[n], t) for n, t in expected.items() if "running" not in n)
    assert parts["head"].keys() == {"linear.weight", "linear.bias"}
    assert 0 < parts["head"]["linear.weight"].abs().max() < 0.06
    assert not parts["head"]["linear.bias"].any()


def test_point_11_a_probe_leaves_the_online_trunk_as_it_is(pretrained, tmp_path: Path) -> None:
    inputs, state = pretrained
    parts = trained(tmp_path, linear.run, replace(probing(), head="plain"), inputs)
    expected = online(state)
    assert parts["backbone"].keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in parts["backbone"].items())
    assert parts["head"].keys() == {"linear.weight", "linear.bias"}
    assert parts["head"]["linear.bias"].any(), "it has learned"
