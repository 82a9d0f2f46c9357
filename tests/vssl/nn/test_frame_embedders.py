"""Embedders of frames against the original's numbers (card, section 13, points 7 and 8)."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import carl_names
from tests.goldens import golden, golden_tensors
from vssl.methods.carl import Projector
from vssl.nn.dropout import SequenceDropout
from vssl.nn.embedder_config import ConvEmbedderConfig, FrameEmbedderConfig, TransformerEmbedderConfig
from vssl.nn.frame_embedders import (
    ConvEmbedder,
    EncoderLayer,
    FrameEmbedder,
    TransformerEmbedder,
    build_embedder,
    sincos_positions,
)
from vssl.nn.recomputation import recomputed
from vssl.randomness import seeded, stream

ARRAYS = golden_tensors("transformer_embedder", "carl")


def load(module: nn.Module, arrays: dict[str, Tensor], prefix: str, renamed: Callable[[str], str]) -> Any:
    state = {renamed(key.removeprefix(prefix)): array for key, array in arrays.items() if key.startswith(prefix)}
    unknown = module.double().load_state_dict(state, strict=False)
    assert not unknown.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in unknown.missing_keys)
    return module


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def transformer(dropout: float = 0.0) -> TransformerEmbedder:
    shape = {key.removeprefix("emb_w/"): array.shape for key, array in ARRAYS.items() if key.startswith("emb_w/")}
    layers = {key.split(".")[2] for key in shape if ".enc_layers." in key}
    config = TransformerEmbedderConfig(
        layers=len(layers), heads=int(ARRAYS["heads"]), dropout=dropout, dim=shape["video_emb.weight"][0],
        ff_dim=shape["video_encoder.enc_layers.0.feed_forward.fc1.weight"][0],
        fc_dims=(shape["fc_layers.1.weight"][0], shape["fc_layers.5.weight"][0]),
        embedding_dim=shape["embedding_layer.weight"][0],
    )  # fmt: skip
    return TransformerEmbedder(config, shape["fc_layers.1.weight"][1])


@pytest.mark.parametrize(
    "case", [key.removesuffix("_args") for key in ARRAYS if key.startswith("pe_") and "_args" in key]
)
def test_point_07_positions_golden(case: str) -> None:
    count, dim, trained = ARRAYS[f"{case}_args"].tolist()
    near(sincos_positions(count, dim, None if trained < 0 else trained), ARRAYS[case][0], 1e-12)


def test_point_07_other_lengths_are_spread_over_the_trained_positions() -> None:
    trained = sincos_positions(24, 8)
    for count in (7, 24, 90):
        found = sincos_positions(count, 8, 24)
        near(found[[0, -1]], trained[[0, -1]])
    angles = 5 / 10000 ** (torch.arange(8, dtype=torch.float64) / 8)
    near(trained[5], torch.stack([angles[n].cos() if n % 2 else angles[n].sin() for n in range(8)]), 1e-12)


def test_point_08_attention_and_encoder_layer_golden() -> None:
    x, mask = ARRAYS["mha_x"], ARRAYS["mha_mask"][:, 0].bool()
    layer = EncoderLayer(x.shape[2], int(ARRAYS["heads"]), ARRAYS["layer_w/feed_forward.fc1.weight"].shape[0], 0.0)
    load(layer, ARRAYS, "layer_w/", carl_names.of_layer)
    near(layer(x, None), ARRAYS["layer_out"])
    near(layer(x, mask), ARRAYS["layer_out_masked"])
    state = {
        carl_names.of_layer(key.removeprefix("mha_w/")): a for key, a in ARRAYS.items() if key.startswith("mha_w/")
    }
    layer.load_state_dict(layer.state_dict() | state)
    near(layer.attention(x, None), ARRAYS["mha_out"])
    near(layer.attention(x, mask), ARRAYS["mha_out_masked"])


def test_point_08_transformer_embedder_golden() -> None:
    embedder = load(transformer(), ARRAYS, "emb_w/", carl_names.of_embedder)
    trained = int(ARRAYS["train_num_frames"])
    mask = ARRAYS["mha_mask"][:, 0].bool()

    def pooled(key: str) -> Tensor:
        return embedder.reduce(ARRAYS[key].flatten(0, 1)).unflatten(0, ARRAYS[key].shape[:2])

    embedder.eval()
    near(embedder(pooled("emb_feat"), trained_count=trained), ARRAYS["emb_eval"])
    near(embedder(pooled("emb_feat"), mask, trained_count=trained), ARRAYS["emb_eval_masked"])
    near(embedder(pooled("emb_feat_long"), trained_count=trained), ARRAYS["emb_eval_long"])
    embedder.train()
    near(embedder(pooled("emb_feat"), mask), ARRAYS["emb_train_masked"])
    buffers = dict(embedder.named_buffers())
    after = [key for key in ARRAYS if key.startswith("emb_after_train/")]
    assert after
    for key in after:
        near(buffers[carl_names.of_embedder(key.removeprefix("emb_after_train/"))], ARRAYS[key])


def test_point_08_masked_frames_are_seen_by_none() -> None:
    embedder = load(transformer(), ARRAYS, "emb_w/", carl_names.of_embedder).eval()
    features = torch.randn(2, 9, embedder.fc1.in_features, dtype=torch.float64, generator=stream("features"))
    mask = torch.arange(9).expand(2, 9) < torch.tensor([[5], [8]])
    changed = torch.where(mask[..., None], features, features + 7)
    one, other = embedder(features, mask), embedder(changed, mask)
    assert torch.equal(one[mask], other[mask])
    assert not torch.equal(one[~mask], other[~mask])


def test_projector_golden() -> None:
    x, normalise = ARRAYS["proj_x"], torch.nn.functional.normalize
    hidden, outputs = (ARRAYS[f"proj_w/net.{number}.weight"].shape[0] for number in (0, 3))
    projector = Projector(x.shape[2], hidden, outputs)
    load(projector, ARRAYS, "proj_w/", lambda name: carl_names.of_model(f"ssl_projection.{name}").partition(".")[2])
    near(projector.eval()(x), ARRAYS["proj_eval"])
    found = projector.train()(x)
    near(found, ARRAYS["proj_train"])
    near(normalise(found, dim=2), ARRAYS["proj_train_normalised"])


def test_conv_and_frame_embedders_golden() -> None:
    arrays = golden_tensors("conv_embedder", "carl")
    features, count = arrays["feat"], int(arrays["num_frames"])
    context = features.shape[1] // count

    def sizes(prefix: str) -> dict[str, Any]:
        first, second, last = (
            arrays[f"{prefix}/{name}.weight"].shape[0] for name in ("fc_layers.1", "fc_layers.4", "embedding_layer")
        )
        return {"fc_dims": (first, second), "embedding_dim": last, "dropout": 0.0}

    conv = ConvEmbedderConfig(conv_dim=arrays["w/conv_layers.0.weight"].shape[0], **sizes("w"))
    embedder = ConvEmbedder(conv, features.shape[2])
    load(embedder, arrays, "w/", carl_names.of_conv)
    near(embedder.eval()(features, num_context_frames=context), arrays["eval"])
    near(embedder.train()(features, num_context_frames=context), arrays["train"])
    frame = FrameEmbedder(FrameEmbedderConfig(**sizes("vanilla_w")), features.shape[2])
    load(frame, arrays, "vanilla_w/", carl_names.of_conv).eval()
    pooled = frame.reduce(features.flatten(0, 1)).unflatten(0, features.shape[:2])
    near(frame(pooled, num_context_frames=context), arrays["vanilla_eval"])


def test_point_09_sizes_of_the_published_embedders() -> None:
    with torch.device("meta"):
        counts = {
            layers: sum(p.numel() for p in build_embedder(TransformerEmbedderConfig(layers=layers), 2048).parameters())
            for layers in (2, 3)
        }
        conv = sum(p.numel() for p in build_embedder(ConvEmbedderConfig(), 1024).parameters())
        frame = sum(p.numel() for p in build_embedder(FrameEmbedderConfig(), 2048).parameters())
    assert counts == {2: 3_057_536, 3: 3_847_296}
    assert conv == 21_827_712
    assert frame == 1_377_408


def test_encoder_layers_start_alike() -> None:
    with seeded(0):
        embedder = TransformerEmbedder(TransformerEmbedderConfig(dim=16, heads=4, ff_dim=8, fc_dims=(8, 8)), 6)
    first, *others = (layer.state_dict() for layer in embedder.layers)
    assert all(torch.equal(first[key], other[key]) for other in others for key in first)
    assert first["query.weight"].abs().max() <= np.sqrt(6 / 32)


def test_dropout_of_a_sequence_depends_on_its_name_alone() -> None:
    values = torch.ones(3, 50, 8)
    whole = SequenceDropout([stream("d", n) for n in range(3)])
    first, second = whole(values, 0.3), whole(values, 0.3)
    alone = SequenceDropout([stream("d", 1)])
    assert torch.equal(alone(values[1:2], 0.3)[0], first[1])
    assert torch.equal(alone(values[1:2], 0.3)[0], second[1])
    assert not torch.equal(first, second)
    assert first.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (first == 0).double().mean() == pytest.approx(0.3, abs=0.05)
    assert not whole(values, 1.0).any()


def test_what_is_computed_twice_moves_running_statistics_once() -> None:
    def layers() -> nn.Module:
        with seeded(1):
            return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())

    plain, twice = layers(), layers()
    gradients = []
    for network in (plain, twice):
        x = torch.randn(4, 2, 6, 6, generator=stream("x")).requires_grad_()
        for _ in itertools.repeat(None, 2):
            output = network(x) if network is plain else recomputed(network, x, network)
            output.square().sum().backward()
        gradients.append([x.grad, *(p.grad for p in network.parameters())])
    for one, other in zip(*gradients):
        assert torch.equal(one, other)
    for key, buffer in plain.state_dict().items():
        assert torch.equal(buffer, twice.state_dict()[key]), key
    assert int(twice.state_dict()["1.num_batches_tracked"]) == 2


def test_a_transformer_reads_no_context() -> None:
    assert golden("transformer_embedder", "carl")
    embedder = TransformerEmbedder(TransformerEmbedderConfig(dim=8, heads=2, ff_dim=8, fc_dims=(8, 8)), 6)
    with pytest.raises(ValueError, match="num_context_frames to 1"):
        embedder(torch.zeros(1, 4, 6), num_context_frames=2)
