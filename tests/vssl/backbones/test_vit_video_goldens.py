"""Parts and small networks of TimeSformer and ViViT against the original's numbers (card, section 11, point 2)."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.goldens import golden
from tests.vtransformers import TIMESFORMERS, VIVITS, from_meta, numbers_of, own_weights, weights
from vssl.backbones.positions import resized_positions, sines_and_cosines
from vssl.backbones.vit_video import (
    AxisAttention,
    DividedBlock,
    Perceptron,
    RowAttention,
    VideoTransformer,
)


def test_the_four_attentions_along_an_axis_and_the_two_steps_of_a_row_golden() -> None:
    meta, arrays = numbers_of("01_attention_ops")
    dim, heads, frames = meta["dim"], meta["heads"], meta["frames"]
    for name in sorted({key.partition("/")[0] for key in arrays if "/" in key}):
        axis, _, sight = name.partition("_")
        if sight:
            along = "time" if axis == "temporal" else "space"
            step: Any = AxisAttention(dim, heads, frames, axis=along, sees_class=sight == "cls")
        else:
            step = Perceptron(dim) if name == "ffn" else RowAttention(dim, heads)
        theirs = {f"{key}".replace("attn.", "attention."): t for key, t in weights(arrays, f"{name}/w/").items()}
        step = step.double()
        step.load_state_dict(
            {k.replace("layers.0.0.", "fc1.").replace("layers.1.", "fc2."): t for k, t in theirs.items()}
        )
        found = step(arrays["x"])
        torch.testing.assert_close(found, arrays[f"{name}/out"], rtol=0, atol=1e-9)
        assert torch.equal(found[:, 0], arrays["x"][:, 0]) == name.endswith("nocls")
        if f"{name}/attn" in arrays:
            seen: list[Tensor] = []
            step.attention.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
            step(arrays["x"])
            torch.testing.assert_close(step.attention.shares(seen[0]), arrays[f"{name}/attn"], rtol=0, atol=1e-9)


def test_divided_block_golden() -> None:
    meta, arrays = numbers_of("02_divided_block")
    block = DividedBlock(meta["dim"], meta["heads"], meta["frames"]).double()
    block.load_state_dict(
        {key.removeprefix("blocks.0."): t for key, t in own_weights(
            {f"transformer_layers.layers.0.{key[2:]}": t for key, t in arrays.items() if key.startswith("w/")}
        ).items()}
    )  # fmt: skip
    torch.testing.assert_close(block(arrays["x"]), arrays["out"], rtol=0, atol=1e-9)
    seen: list[Tensor] = []
    block.space.attention.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    block(arrays["x"])
    torch.testing.assert_close(block.space.attention.shares(seen[0]), arrays["last_attn"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", TIMESFORMERS)
def test_point_02_timesformer_golden(kind: str) -> None:
    meta, arrays = numbers_of(f"03_timesformer_{kind}")
    network = from_meta(meta).eval()
    network.load_state_dict(weights(arrays))
    clips = arrays["x"].transpose(1, 2)
    torch.testing.assert_close(network.tokens(clips), arrays["tokens"], rtol=0, atol=1e-9)
    torch.testing.assert_close(network(clips).flatten(1), arrays["out_cls"], rtol=0, atol=1e-9)
    network.pooled = "patches"
    torch.testing.assert_close(network(clips).flatten(1), arrays["out_mean"], rtol=0, atol=1e-9)
    shares = network.class_attention(clips)  # (B, t, heads, h, w)
    theirs = arrays["last_attn"][:, :, 0, 1:]
    if kind == "joint_space_time":  # patch-major
        theirs = theirs.unflatten(2, (-1, meta["frames"])).permute(0, 3, 1, 2)
    torch.testing.assert_close(
        shares.flatten(3).flatten(0, 1), theirs.reshape(-1, *theirs.shape[-2:]), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("kind", VIVITS)
def test_point_02_vivit_golden(kind: str) -> None:
    meta, arrays = numbers_of(f"06_vivit_{kind}")
    network = from_meta(meta, temporal_depth=meta["temporal_layers"]).eval()
    network.load_state_dict(weights(arrays))
    clips = arrays["x"].transpose(1, 2)
    torch.testing.assert_close(network.tokens(clips), arrays["tokens"], rtol=0, atol=1e-9)
    torch.testing.assert_close(network(clips).flatten(1), arrays["out_per_sample"], rtol=0, atol=1e-9)
    network.pooled = "patches"
    torch.testing.assert_close(network(clips).flatten(1), arrays["out_mean_per_sample"], rtol=0, atol=1e-9)


def test_the_originals_factorised_encoder_hands_on_other_clips_class_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its leak does, shown to be the only difference; here no option brings it back."""
    meta, arrays = numbers_of("06_vivit_fact_encoder")
    network = from_meta(meta, temporal_depth=meta["temporal_layers"]).eval()
    network.load_state_dict(weights(arrays))
    own = VideoTransformer._over_time

    def leaking(self: VideoTransformer, tokens: Tensor) -> Tensor:
        leaked = tokens.clone()
        leaked[:, 0, 0] = tokens.flatten(0, 1)[: len(tokens), 0]
        return own(self, leaked)

    monkeypatch.setattr(VideoTransformer, "_over_time", leaking)
    found = network(arrays["x"].transpose(1, 2)).flatten(1)
    torch.testing.assert_close(found, arrays["out_batched_original"], rtol=0, atol=1e-9)
    assert not torch.allclose(found[1:], arrays["out_per_sample"][1:], atol=1e-3)


def test_position_interpolation_golden() -> None:
    meta, arrays = numbers_of("04_pos_interp_joint")
    network = from_meta(meta, attention="joint_space_time").eval()
    network.load_state_dict(weights(arrays))
    side = meta["big"] // meta["patch"]
    found = resized_positions(network.pos_embed, side, side)
    torch.testing.assert_close(found, arrays["interpolated_pos"], rtol=0, atol=1e-6)
    clips = arrays["x"].transpose(1, 2)
    torch.testing.assert_close(network.tokens(clips), arrays["tokens"], rtol=0, atol=1e-6)
    torch.testing.assert_close(network(clips).flatten(1), arrays["out_cls"], rtol=0, atol=1e-6)


def test_sines_and_cosines_golden() -> None:
    meta, arrays = numbers_of("05_sincos")
    table = sines_and_cosines(int(arrays["n"]), int(arrays["d"]))
    torch.testing.assert_close(table, arrays["table"].float(), rtol=0, atol=1e-6)
    network = from_meta(meta, positions="fixed").eval()
    network.load_state_dict(weights(arrays))
    clips = arrays["x"].transpose(1, 2)
    torch.testing.assert_close(network.tokens(clips), arrays["tokens"], rtol=0, atol=1e-6)
    torch.testing.assert_close(network(clips).flatten(1), arrays["out_cls"], rtol=0, atol=1e-6)


def test_patch_embeddings_golden() -> None:
    arrays = {
        k: torch.from_numpy(a).double()
        for k, a in golden("17_patch_embed", "vtransformer").items()
        if a.dtype.kind == "f"
    }
    for kind in sorted({key.partition("/")[0] for key in arrays if "/" in key}):
        theirs = {key.rpartition(".")[2]: t for key, t in arrays.items() if key.startswith(f"{kind}/w/")}
        weight = theirs["weight"] if theirs["weight"].ndim == 5 else theirs["weight"].unsqueeze(2)
        _, _, tube, side, _ = weight.shape
        _, frames, _, height, _ = arrays["x"].shape
        network = VideoTransformer(
            attention="space_only", embed_dim=len(weight), depth=1, num_heads=1, patch_size=side, tubelet_size=tube,
            num_frames=frames, image_size=height,
        ).double()  # fmt: skip
        with torch.no_grad():
            network.patch_embed.weight.copy_(weight)
            network.patch_embed.bias.copy_(theirs["bias"])
            network.pos_embed.zero_()
            found = network.tokens(arrays["x"].transpose(1, 2))[:, 1:]
        torch.testing.assert_close(found, arrays[f"{kind}/out"], rtol=0, atol=1e-9)
