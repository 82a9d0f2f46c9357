"""What TimeSformer and ViViT are on any clip: closed forms, and what they refuse (card, section 11, points 2 to 4)."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.vtransformers import SMALL, VARIANTS, clips, config, small, stirred
from vssl.backbones.positions import resized_positions
from vssl.config import ConfigError


def test_positions_of_an_image_that_is_not_square_keep_their_rows() -> None:
    rows = torch.arange(16.0).view(4, 4)[:, :1].expand(4, 4)  # a table that says in which row a patch is
    table = torch.cat([torch.zeros(1), rows.flatten()])[None, :, None]
    found = resized_positions(table, 4, 8)[0, 1:, 0].view(4, 8)
    assert (found - found[:, :1]).abs().max() < 1.0
    assert (found.diff(dim=0) > 1).all()


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
