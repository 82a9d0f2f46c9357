"""The linear probe: what it trains and what it leaves, and its predictions."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.tiny_stages import BACKBONE, Stage, clips, runtime, weights_of
from vssl.backbones.backbone_config import TinyConfig
from vssl.backbones.build import build_backbone
from vssl.config import build
from vssl.methods import Position
from vssl.stages import linear, multiview
from vssl.stages.multiview_config import MultiviewConfig
from vssl.weights import load_weights


def test_point_14_linear_probe_only_trains_the_head(stages, tmp_path):
    metrics = stages["linear"].execute(tmp_path)
    before = load_weights(stages["linear"].inputs["weights"][0]).part("backbone")
    after = load_weights(weights_of(tmp_path, stages["linear"])[0])
    assert set(after.part("backbone")) == set(before)
    for name, tensor in after.part("backbone").items():
        assert torch.equal(tensor, before[name]), f"{name} has changed"
    head = after.part("head")
    assert head["norm.running_mean"].abs().sum() > 0, "the batch normalisation of the head is trained"
    assert head["norm.num_batches_tracked"] == 6
    assert {"top1", "top5", "chance_top1", "train_loss_last"} <= set(metrics)
    assert metrics["chance_top1"] == 0.5


def test_predictions_are_probabilities_of_every_test_video(stages, tmp_path):
    metrics = stages["linear"].execute(tmp_path)
    table = pd.read_parquet(tmp_path / "linear-rgb" / "artifacts" / "predictions" / "predictions.parquet")
    probabilities = torch.tensor(np.array(table["probabilities"].tolist()))
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2))
    hits = probabilities.argmax(dim=1) == torch.tensor(table["label"].tolist())
    assert metrics["top1"] == hits.double().mean().item()


def test_the_probes_backbone_stays_in_evaluation_mode():
    backbone = torch.nn.Sequential(torch.nn.BatchNorm3d(3))
    backbone.num_features = 3
    probe = linear.LinearProbe(backbone, 2).train()
    assert not backbone.training
    assert probe.head.training


def probe_of(**options: bool) -> linear.LinearProbe:
    backbone = build_backbone(TinyConfig(width=2)).requires_grad_(False)
    return linear.LinearProbe(backbone, 3, **options).train()


@pytest.mark.parametrize("drifting", [False, True])
def test_a_plain_probe_trains_two_tensors_and_statistics_move_only_if_they_may(drifting):
    probe = probe_of(plain=True, drifting=drifting)
    before = {name: tensor.clone() for name, tensor in probe.backbone.state_dict().items()}
    batch = {"streams": {"rgb": torch.randn(4, 1, 3, 4, 16, 16)}, "labels": torch.tensor([0, 1, 2, 0])}
    loss, _ = probe(batch, Position(step=0, epoch=0, steps_per_epoch=1, epochs=1))
    loss.backward()
    trained = {name for name, parameter in probe.named_parameters() if parameter.grad is not None}
    assert (
        trained
        == {n for n, p in probe.named_parameters() if p.requires_grad}
        == {"head.linear.weight", "head.linear.bias"}
    )
    moved = {name for name, tensor in probe.backbone.state_dict().items() if not torch.equal(tensor, before[name])}
    assert all("running" in name or "num_batches" in name for name in moved)
    assert bool(moved) == drifting
    probe.eval()
    assert not any(module.training for module in probe.modules())


def test_a_drifting_probe_as_a_stage(stages, root, tmp_path):
    stage = replace(stages["linear"], config=replace(stages["linear"].config, head="plain", trunk="train"))
    metrics = stage.execute(tmp_path)
    before, after = (load_weights(weights_of(*at)[0]) for at in ((root, stages["single"]), (tmp_path, stage)))
    assert set(after.part("head")) == {"linear.weight", "linear.bias"}
    differing = {n for n, one in after.part("backbone").items() if not torch.equal(one, before.part("backbone")[n])}
    assert differing == {n for n in after.part("backbone") if "running" in n or "num_batches" in n}
    tested = build(
        MultiviewConfig,
        {
            "backbone": BACKBONE, "data": clips("rgb"), "test_crops": "centre", "test_view": {"centre_crop": 0},
            "runtime": runtime(),
        },
    )  # fmt: skip
    again = Stage(multiview.run, tested, dict(stage.inputs) | {"weights": weights_of(tmp_path, stage)}, "again")
    assert again.execute(tmp_path)["top1"] == metrics["top1"]
