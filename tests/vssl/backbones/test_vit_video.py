"""TimeSformer and ViViT against the original's numbers and closed forms (card, section 11, points 1 to 4 and 7)."""

import json
import os
import re
import zlib
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.goldens import golden, golden_tensors
from vssl.backbones.backbone_config import TimeSformerConfig, ViViTConfig
from vssl.backbones.build import build_backbone
from vssl.backbones.positions import resized_positions, sines_and_cosines
from vssl.backbones.vit_video import (
    AxisAttention,
    DividedBlock,
    Perceptron,
    RowAttention,
    VideoTransformer,
)
from vssl.backbones.vtransformer_names import own_names
from vssl.config import ConfigError, build
from vssl.published_vtransformer import import_vtransformer
from vssl.randomness import seeded

TIMESFORMERS = ("divided_space_time", "joint_space_time", "space_only")
VIVITS = ("fact_encoder", "joint_space_time", "divided_space_time")
VARIANTS = [*(("timesformer", kind) for kind in TIMESFORMERS), *(("vivit", kind) for kind in VIVITS)]


def file(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(meta, arrays in float64) of a golden file."""
    numbers = {key: tensor.double() for key, tensor in golden_tensors(name, "vtransformer").items()}
    return json.loads(str(golden(name, "vtransformer").get("meta", "{}"))), numbers


def weights(arrays: dict[str, Tensor], prefix: str = "w/") -> dict[str, Tensor]:
    """Of a file, under the names here."""
    theirs = {name.removeprefix(prefix): tensor for name, tensor in arrays.items() if name.startswith(prefix)}
    return own_weights(theirs)


def own_weights(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {own: theirs[name] for name, own in own_names(theirs).items()}
    if ours.get("patch_embed.weight", torch.empty(0)).ndim == 4:
        ours["patch_embed.weight"] = ours["patch_embed.weight"].unsqueeze(2)
    return ours


def from_meta(meta: dict[str, Any], **more: Any) -> VideoTransformer:
    sizes = {"embed_dim": "embed_dims", "depth": "layers", "num_heads": "num_heads", "patch_size": "patch"}
    knobs = {own: meta[theirs] for own, theirs in (sizes | {"image_size": "img", "num_frames": "frames"}).items()}
    attention = meta.get("attention_type", "divided_space_time")
    return VideoTransformer(**({"attention": attention, "tubelet_size": meta.get("tube", 1)} | knobs | more)).double()


def test_the_four_attentions_along_an_axis_and_the_two_steps_of_a_row_golden() -> None:
    meta, arrays = file("01_attention_ops")
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
    meta, arrays = file("02_divided_block")
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
    meta, arrays = file(f"03_timesformer_{kind}")
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
    meta, arrays = file(f"06_vivit_{kind}")
    network = from_meta(meta, temporal_depth=meta["temporal_layers"]).eval()
    network.load_state_dict(weights(arrays))
    clips = arrays["x"].transpose(1, 2)
    torch.testing.assert_close(network.tokens(clips), arrays["tokens"], rtol=0, atol=1e-9)
    torch.testing.assert_close(network(clips).flatten(1), arrays["out_per_sample"], rtol=0, atol=1e-9)
    network.pooled = "patches"
    torch.testing.assert_close(network(clips).flatten(1), arrays["out_mean_per_sample"], rtol=0, atol=1e-9)


def test_the_originals_factorised_encoder_hands_on_other_clips_class_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its leak does, shown to be the only difference; here no option brings it back."""
    meta, arrays = file("06_vivit_fact_encoder")
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
    meta, arrays = file("04_pos_interp_joint")
    network = from_meta(meta, attention="joint_space_time").eval()
    network.load_state_dict(weights(arrays))
    side = meta["big"] // meta["patch"]
    found = resized_positions(network.pos_embed, side, side)
    torch.testing.assert_close(found, arrays["interpolated_pos"], rtol=0, atol=1e-6)
    clips = arrays["x"].transpose(1, 2)
    torch.testing.assert_close(network.tokens(clips), arrays["tokens"], rtol=0, atol=1e-6)
    torch.testing.assert_close(network(clips).flatten(1), arrays["out_cls"], rtol=0, atol=1e-6)


def test_positions_of_an_image_that_is_not_square_keep_their_rows() -> None:
    rows = torch.arange(16.0).view(4, 4)[:, :1].expand(4, 4)  # a table that says in which row a patch is
    table = torch.cat([torch.zeros(1), rows.flatten()])[None, :, None]
    found = resized_positions(table, 4, 8)[0, 1:, 0].view(4, 8)
    assert (found - found[:, :1]).abs().max() < 1.0
    assert (found.diff(dim=0) > 1).all()


def test_sines_and_cosines_golden() -> None:
    meta, arrays = file("05_sincos")
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


FULL = golden("18_full_backbones", "vtransformer")


def by_rule(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """The weights of file 18: drawn from the name of each tensor."""
    found = {}
    for name, shape in shapes.items():
        drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape) * 0.02
        found[name] = torch.from_numpy(drawn.astype(np.float32)) + (len(shape) == 1 and name.endswith("weight"))
    return found


PARAMETERS = {
    ("timesformer", "divided_space_time"): 121_258_752,
    ("timesformer", "joint_space_time"): 85_804_800,
    ("timesformer", "space_only"): 85_798_656,
    ("vivit", "fact_encoder"): 114_746_880,
    ("vivit", "joint_space_time"): 86_394_624,
    ("vivit", "divided_space_time"): 121_848_576,
}


def config(family: str, attention: str, **knobs: Any) -> Any:
    return build(
        TimeSformerConfig if family == "timesformer" else ViViTConfig, {"name": family, "attention": attention} | knobs
    )


@pytest.mark.parametrize(("family", "attention"), VARIANTS)
def test_point_01_parameters_and_names(family: str, attention: str) -> None:
    with torch.device("meta"):
        network = build_backbone(config(family, attention))
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[family, attention]
    key = f"{family}_{attention.removesuffix('_space_time')}"
    if f"{key}/keys" in FULL:
        shapes = json.loads(str(FULL[f"{key}/keys"]))
        theirs = own_weights({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
        assert {n: t.shape for n, t in theirs.items()} == {n: t.shape for n, t in network.state_dict().items()}
        assert FULL[f"{key}/num_params"] == PARAMETERS[family, attention]


QUICK = ("timesformer_divided", "vivit_fact_encoder")  # one of each family; VSSL_GOLDEN asks for all


def clip_by_rule(frames: int, side: int) -> Tensor:
    """(1, 3, T, H, W): the input of file 18."""
    (seed,) = re.findall(r"input = RandomState\((\d+)\)", str(FULL["rule"]))
    drawn = np.random.RandomState(int(seed)).standard_normal((1, frames, 3, side, side)).astype(np.float32)
    return torch.from_numpy(drawn).transpose(1, 2)


@pytest.mark.parametrize(
    "name", [key.removesuffix("/keys") for key in FULL if key.endswith("/keys") and "mvit" not in key]
)
def test_full_size_golden(name: str) -> None:
    """Its sizes are read from the file, as those of a released one are."""
    if name not in QUICK and "VSSL_GOLDEN" not in os.environ:
        pytest.skip("ten seconds of computing; VSSL_GOLDEN asks for it")
    released = import_vtransformer(by_rule(json.loads(str(FULL[f"{name}/keys"]))))
    assert released.backbone_config is not None
    knobs = {"num_frames": 8} | dict(released.backbone_config)  # attention over space alone has no time table
    with torch.device("meta"):
        network = build_backbone(config(knobs.pop("name"), knobs.pop("attention"), **knobs)).eval()
    network.load_state_dict({n.removeprefix("backbone."): t for n, t in released.tensors.items()}, assign=True)
    with torch.no_grad():
        found = network(clip_by_rule(knobs["num_frames"], knobs["image_size"])).flatten()
    np.testing.assert_allclose(found, FULL[f"{name}/out"], rtol=0, atol=2e-4)


SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "image_size": 16, "num_frames": 4}


def small(family: str, attention: str, **knobs: Any) -> VideoTransformer:
    with seeded(3):
        network = build_backbone(config(family, attention, **(SMALL | knobs)))
    assert isinstance(network, VideoTransformer)
    return network.double().eval()


def stirred(network: VideoTransformer) -> VideoTransformer:
    """With nothing left at zero, so that every path can be seen."""
    with torch.no_grad(), seeded(4):
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def clips(batch: int = 3, frames: int = 4, side: int = 16) -> Tensor:
    return torch.randn(batch, 3, frames, side, side, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize(("family", "attention"), VARIANTS)
def test_point_02_a_batch_is_its_samples(family: str, attention: str) -> None:
    network = stirred(small(family, attention))
    together = network(clips())
    torch.testing.assert_close(together, torch.cat([network(one[None]) for one in clips()]), rtol=0, atol=1e-12)
    assert together.shape == (3, 16, 1, 1, 1)


def test_point_03_at_first_a_divided_network_knows_no_order_of_frames() -> None:
    network = small("timesformer", "divided_space_time", time_init="normal")
    order = torch.tensor([2, 0, 3, 1])
    before = network(clips())
    with torch.no_grad():
        network.time_embed.copy_(network.time_embed[:, order])
    torch.testing.assert_close(network(clips()[:, :, order]), before, rtol=0, atol=1e-12)
    assert not torch.allclose(network(clips()), before)


def test_point_04_the_step_over_time_leaves_the_class_token_alone() -> None:
    step = stirred(small("timesformer", "divided_space_time")).blocks[0].time
    tokens = torch.randn(2, 1 + 4 * 4, 16, dtype=torch.float64, requires_grad=True)
    out = step(tokens)
    assert torch.equal(out[:, 0], tokens[:, 0])
    (gradient,) = torch.autograd.grad(out[:, 0].sum(), tokens)
    assert torch.equal(gradient, F.one_hot(torch.tensor(0), 17).double()[None, :, None].expand_as(gradient))
    assert not torch.equal(out[:, 1:], tokens[:, 1:])


def test_point_07_the_factorised_encoder_has_a_time_for_the_class_token_too() -> None:
    with torch.device("meta"):
        network = build_backbone(config("vivit", "fact_encoder"))
    assert network.time_embed.shape == (1, 9, 768)
    assert len(network.temporal_blocks) == 4


def test_attention_without_its_matrix_is_attention() -> None:
    attention = stirred(small("timesformer", "joint_space_time")).blocks[0].space.attention
    tokens = torch.randn(2, 7, 16, dtype=torch.float64)
    query, key, value = attention.qkv(tokens).view(2, 7, 3, 2, 8).permute(2, 0, 3, 1, 4)
    shares = torch.einsum("bhid,bhjd->bhij", query, key).div(8**0.5).exp()
    shares = shares / shares.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(attention.shares(tokens), shares)
    expected = attention.proj(torch.einsum("bhij,bhjd->bihd", shares, value).reshape(2, 7, 16))
    torch.testing.assert_close(attention(tokens), expected)


@pytest.mark.parametrize(("family", "attention"), VARIANTS)
def test_class_attention_is_a_share_of_one(family: str, attention: str) -> None:
    network = stirred(small(family, attention))
    shares = network.class_attention(clips())
    frames = 4 if family == "timesformer" else 2
    assert shares.shape == (3, frames, 2, 2, 2)
    assert (shares > 0).all()
    dims = (1, 3, 4) if attention == "joint_space_time" else (3, 4)
    assert (shares.sum(dim=dims) < 1).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((4, 20), r"clips of 4 frames of 20x20 do not divide .* data.crop_size to one of 8"),
        ((6, 16), r"clips have 6 frames and the network's time table is of 4"),
    ],
)
def test_clips_that_do_not_fit_are_refused(given: tuple[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small("timesformer", "divided_space_time")(clips(1, *given))


@pytest.mark.parametrize(
    ("family", "knobs", "message"),
    [
        ("timesformer", {"num_heads": 5}, "embed_dim is 16 and num_heads is 5; .* such as 15"),
        ("timesformer", {"image_size": 20}, "image_size is 20 and patch_size is 8; .* such as 16"),
        ("vivit", {"num_frames": 5}, "num_frames is 5 and tubelet_size is 2; .* such as 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(family: str, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(family, "joint_space_time", **(SMALL | knobs))
