"""CARL's objectives and embedders: each learns, and what does not go together is refused."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.carl_batches import SIDE, SMALL, VIDEOS, batch, tiny
from tests.vicc_steps import at
from vssl.backbones.backbone_config import TinyFramesConfig
from vssl.config import ConfigError, build
from vssl.methods.carl import CARL
from vssl.methods.carl_config import CARLConfig
from vssl.optim import build_optimizer
from vssl.optim_config import AdamConfig


@pytest.mark.parametrize(
    "knobs",
    [
        {"objective": "tcc", "videos_per_loss": 2},
        {"objective": "tcc", "videos_per_loss": 2, "penalty": "classification", "unit_embeddings": False},
        {"objective": "tcc", "videos_per_loss": 2, "similarity": "cosine", "normalised_times": False},
        {"objective": "tcn"},
        {"objective": "supervised", "num_classes": 2},
        {"objective": "scl", "embedder": {"name": "frame", "fc_dims": [8, 8], "embedding_dim": 6}},
        {"objective": "scl", "embedder": {"name": "conv", "conv_dim": 4, "fc_dims": [8, 8], "embedding_dim": 6}},
    ],
    ids=lambda knobs: "-".join(
        str(v) if isinstance(v, str) else v["name"] for v in knobs.values() if not isinstance(v, int)
    ),
)
def test_every_objective_and_embedder_learns(knobs: dict[str, Any]) -> None:
    conv = knobs.get("embedder", {}).get("name") == "conv"
    backbone = TinyFramesConfig(width=2, layers=3 if conv else 4)
    config = build(CARLConfig, SMALL | {"frozen_layers": 0} | knobs)
    method = CARL.from_config(config, backbone, global_batch_size=VIDEOS, seed=0).train()
    context = 2 if conv else 1
    given = batch(views=2 if config.objective == "scl" else 1, context=context, side=48 if conv else SIDE)
    optimizer = build_optimizer(AdamConfig(base_lr=0.01), method.parameters())
    losses = []
    for step in range(12):
        loss, _ = method(given, at(step))
        optimizer.zero_grad()
        loss.backward()
        method.before_update(at(step))
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in method.parameters() if parameter.requires_grad)


def test_the_supervised_objective_is_the_cross_entropy_of_frames_that_have_labels() -> None:
    method = tiny(objective="supervised", num_classes=2, unit_embeddings=False).eval()
    given = batch(views=1)
    given["lengths"] += 1  # so that no slot is masked
    assert method.classifier is not None
    assert method.projector is None
    with torch.no_grad():
        loss, scalars = method(given, at(0))
        logits = method.classifier(method.encoder(given["streams"]["rgb"][:, 0]))
    known = given["frame_labels"][:, 0] >= 0
    assert not known.all()
    videos = [(scores[shown], of[shown]) for scores, of, shown in zip(logits, given["frame_labels"][:, 0], known)]
    expected = [F.cross_entropy(scores, of) for scores, of in videos]  # a video is a group
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    hits = [(scores.argmax(dim=1) == of).float().mean() for scores, of in videos]
    torch.testing.assert_close(scalars["accuracy"], torch.stack(hits).mean())
    assert {name.partition(".")[0] for name in method.weights()} == {"backbone", "embedder", "classifier"}


@pytest.mark.parametrize("over", ["slots", "frames"])
@pytest.mark.parametrize("embedder", ["transformer", "conv"])
def test_masked_slots_enter_the_statistics_of_vectors_or_do_not(embedder: str, over: str) -> None:
    """What a masked slot shows moves nothing where statistics are over frames, but its own slot."""
    conv = {"name": "conv", "conv_dim": 4, "fc_dims": [8, 8], "embedding_dim": 6}
    knobs: dict[str, Any] = {"batchnorm_over": over, "embedder": conv if embedder == "conv" else SMALL["embedder"]}
    config = build(CARLConfig, SMALL | knobs | {"masked_weight": 0.0})
    backbone = TinyFramesConfig(width=2, layers=3 if embedder == "conv" else 4)
    given = batch(side=48 if embedder == "conv" else SIDE)
    other = copy.deepcopy(given)
    other["streams"]["rgb"][0, 0, :, -1] += 5  # masked
    losses, statistics = [], []
    for clips in (given, other):
        method = CARL.from_config(config, backbone, global_batch_size=VIDEOS, seed=0)
        method.train()
        method.encoder.backbone.eval()  # its maps are normalised over all slots in any case
        losses.append(method(clips, at(0))[0].item())
        names = [name for name in method.state_dict() if "running" in name and "backbone" not in name]
        assert names
        statistics.append(torch.cat([method.state_dict()[name] for name in names]))
    assert (losses[0] == losses[1]) == (over == "frames")
    assert torch.equal(*statistics) == (over == "frames")


def test_what_does_not_go_together_is_refused() -> None:
    for knobs, word in (
        ({"objective": "tcc"}, "another video"),
        ({"negatives": "batch"}, "no other videos"),
        ({"legacy_classification": True}, "goes with tcc and classification"),
        ({"objective": "supervised"}, "takes the number of labels"),
        ({"num_classes": 5}, "objective is scl"),
        ({"embedder": {"name": "transformer", "dim": 9, "heads": 2}}, "multiple of heads"),
    ):
        with pytest.raises(ConfigError, match=word):
            build(CARLConfig, knobs)
