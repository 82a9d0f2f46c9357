"""Image transformers become video transformers; checkpoints of the original (card, section 11, points 3, 5 to 7)."""

import json
import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer

from tests.goldens import golden, golden_tensors
from tests.vtransformers import VIVITS, clips, own_weights, small, stirred
from vssl.backbones.image_init import inflated, start_from_image
from vssl.backbones.image_init_config import ImageInitConfig
from vssl.backbones.positions import resized_positions, sines_and_cosines
from vssl.backbones.vit_video import VideoTransformer
from vssl.backbones.vtransformer_names import own_names
from vssl.config import ConfigError, build
from vssl.published_vit import import_image_vit, is_image_vit
from vssl.published_vtransformer import import_vtransformer, is_vtransformer
from vssl.randomness import seeded

COPIES = ImageInitConfig()


def imported(content: dict[str, Any]) -> dict[str, Tensor]:
    assert is_image_vit(content)
    found = import_image_vit(content)
    return {name.removeprefix("backbone."): tensor for name, tensor in found.tensors.items()}


def of_file(prefix: str) -> dict[str, Tensor]:
    arrays = golden_tensors("07_weight_init", "vtransformer")
    return {key.removeprefix(prefix): t for key, t in arrays.items() if key.startswith(prefix)}


def network_for(case: dict[str, Tensor], image: dict[str, Tensor], kwargs: dict[str, Any]) -> VideoTransformer:
    """The video network that a case of file 07 fills, its sizes from the tensors."""
    dim, _, side, _ = image["patch_embed.weight"].shape
    depth = 1 + max(int(name.split(".")[1]) for name in image if name.startswith("blocks."))
    weight = case["patch_embed.projection.weight"]
    tube = weight.shape[2] if weight.ndim == 5 else 1
    patches = image["pos_embed"].shape[1] - 1 if "pos_embed" in image else 4
    temporal = {int(n.split(".")[3]) for n in case if n.startswith("transformer_layers.1.layers.")}
    return VideoTransformer(
        attention=kwargs["attention_type"], embed_dim=dim, depth=depth, num_heads=1, patch_size=side, tubelet_size=tube,
        num_frames=4 * tube, image_size=side * round(patches**0.5), temporal_depth=1 + max(temporal, default=3),
    )  # fmt: skip


REPORT = json.loads(str(golden("07_weight_init", "vtransformer")["report"]))
CASES = [name for name in REPORT if "kwargs" in REPORT[name]]


@pytest.mark.parametrize("name", CASES)
def test_point_06_and_07_image_weights_golden(name: str) -> None:
    """Exact copies, but for the original's faults: the emptied space attention, the lost middle frame, empty layers."""
    kwargs, case = REPORT[name]["kwargs"], of_file(f"dst/{name}/")
    image = imported(of_file("src/"))
    network = network_for(case, image, kwargs)
    zero = kwargs.get("copy_strategy") == "set_zero"
    centre = kwargs.get("extend_strategy") == "center_frame"
    config = ImageInitConfig(temporal="zero" if zero else "copy", patch_embed="centre" if centre else "average")
    coverage = start_from_image(network, image, config)
    assert set(coverage.missing) == {own_names([key, ".attentions.1."])[key] for key in REPORT[name]["missing"]}
    found = network.state_dict()
    compared = 0
    for key, tensor in own_weights(case).items():
        if zero and (".space." in key if network.attention == "divided_space_time" else "temporal_" in key):
            continue
        if centre and key == "patch_embed.weight":
            assert not tensor.any(), "lost in the original"
            tensor = torch.zeros_like(tensor)
            tensor[:, :, tensor.shape[2] // 2] = image[key]
        torch.testing.assert_close(found[key], tensor.float(), rtol=0, atol=1e-7)
        compared += 1
    assert compared > 20
    if network.attention == "divided_space_time":
        for key, tensor in image.items():
            if ".space." in key:
                assert torch.equal(found[key], tensor)
                assert torch.equal(found[key.replace(".space.", ".time.")], tensor)
    if network.attention == "fact_encoder" and not zero:
        over_time = {key: tensor for key, tensor in found.items() if key.startswith("temporal_blocks.")}
        assert over_time
        assert all(torch.equal(tensor, found[key.removeprefix("temporal_")]) for key, tensor in over_time.items())
    if network.attention == "fact_encoder" and zero:
        empty = {key for key, tensor in found.items() if "temporal_" in key and not tensor.any()}
        assert {re.sub(r"\.\d+\.", ".N.", key) for key in empty} == {
            f"temporal_blocks.N.{layer}.{part}"
            for layer in ("space.attention.proj", "ffn.fc2")
            for part in ("weight", "bias")
        }


def test_blocks_over_time_that_add_nothing_at_first_learn_nonetheless() -> None:
    network = small("vivit", "fact_encoder", temporal_depth=2)
    image = {key: t for key, t in stirred(small("timesformer", "space_only")).state_dict().items() if "time" not in key}
    image["patch_embed.weight"] = image["patch_embed.weight"][:, :, 0]
    start_from_image(network, image, ImageInitConfig(temporal="zero"))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    for _ in range(3):
        optimizer.zero_grad()
        network(clips()).square().sum().backward()
        optimizer.step()
    still = {key for key, tensor in network.state_dict().items() if torch.equal(tensor, before[key])}
    assert not [key for key in still if key.startswith("temporal_blocks.") and "attention" in key]


def test_point_06_mae_golden() -> None:
    """Here all of it; the original drops its attention without a word."""
    source = of_file("mae_src/")
    image = imported({"model": source})
    case = of_file("dst/mae_divided/")
    network = network_for(case, image, {"attention_type": "divided_space_time"})
    coverage = start_from_image(network, image, COPIES)
    missing = {"cls_token", "pos_embed", "time_embed"}
    assert {name for name in coverage.missing if "temporal_fc" not in name} == missing
    found = network.state_dict()
    for key, tensor in own_weights(case).items():
        torch.testing.assert_close(found[key], tensor.float(), rtol=0, atol=1e-7)
    assert torch.equal(found["blocks.0.space.attention.qkv.weight"], source["encoder.blocks.0.attn.qkv.weight"])
    assert torch.equal(found["blocks.0.space.attention.proj.bias"], source["encoder.blocks.0.attn.proj.bias"])
    positions = found["pos_embed"][0]
    assert torch.equal(positions[1:], sines_and_cosines(len(positions) - 1, positions.shape[1]))
    assert not positions[0].any()
    ORIGINAL = REPORT["mae_divided_ORIGINAL"]["missing"]
    assert len(coverage.missing) < len(ORIGINAL)


def test_names_of_the_originals_checkpoints_golden() -> None:
    remap = json.loads(str(golden("07_weight_init", "vtransformer")["kinetics_remap"]))
    for theirs, later in remap.items():
        if theirs.startswith("model.mvit") or theirs.startswith("cls_head"):
            continue
        a, b = (own_names([name, ".attentions.1."])[name] for name in (theirs.removeprefix("model."), later))
        assert a == b


def torchvision_vit(side: int = 16) -> VisionTransformer:
    """A small one, with the norms' eps of the video networks."""
    with seeded(5):
        network = VisionTransformer(
            image_size=side, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=64, num_classes=3,
            norm_layer=partial(nn.LayerNorm, eps=1e-5),
        )  # fmt: skip
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    network.encoder.ln.eps = 1e-6
    return network.double().eval()


def timm_layout(image: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's names, from its key list: what a ViT of it holds."""
    rules = (
        (r"^patch_embed\.", "patch_embed.proj."),
        (r"\.space\.norm\.", ".norm1."),
        (r"\.space\.attention\.", ".attn."),
        (r"\.ffn\.norm\.", ".norm2."),
        (r"\.ffn\.", ".mlp."),
    )
    found = {}
    for name, tensor in image.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found | {"head.weight": torch.zeros(3, 16), "head.bias": torch.zeros(3)}


@pytest.mark.parametrize("attention", ["divided_space_time", "space_only"])
def test_point_03_a_still_clip_gives_the_class_token_of_torchvisions_network(attention: str) -> None:
    theirs = torchvision_vit()
    network = small("timesformer", attention)
    coverage = start_from_image(network, {k: t.double() for k, t in imported(theirs.state_dict()).items()}, COPIES)
    allowed = {"time_embed"} if attention == "divided_space_time" else set()
    assert {name for name in coverage.missing if "temporal_fc" not in name} == allowed
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    theirs.heads = nn.Identity()
    still = image[:, :, None].expand(-1, -1, 4, -1, -1)
    torch.testing.assert_close(network(still).flatten(1), theirs(image), rtol=0, atol=1e-9)


def test_a_still_clip_under_joint_attention_is_the_image_too() -> None:
    """Of one frame: with more, each patch is there more often and the class token's share of itself is less."""
    theirs = torchvision_vit()
    network = small("timesformer", "joint_space_time", num_frames=1)
    start_from_image(network, {k: t.double() for k, t in imported(theirs.state_dict()).items()}, COPIES)
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    theirs.heads = nn.Identity()
    torch.testing.assert_close(network(image[:, :, None]).flatten(1), theirs(image), rtol=0, atol=1e-9)


def test_layouts_of_timm_torchvision_and_its_older_files_are_one() -> None:
    theirs = torchvision_vit().state_dict()
    image = imported(theirs)
    older = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): t for name, t in theirs.items()
    }
    for content in (timm_layout(image), {"model": timm_layout(image)}, older):
        found = imported(content)
        assert set(found) == set(image)
        assert all(torch.equal(found[name], image[name]) for name in image)


def test_the_published_key_list_of_vit_b_fits_timesformer_b() -> None:
    with torch.device("meta"):
        theirs = VisionTransformer(
            image_size=224, patch_size=16, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072
        )
        network = small("timesformer", "divided_space_time", embed_dim=768, depth=12, num_heads=12, patch_size=16,
                        image_size=224, num_frames=8)  # fmt: skip
    image = imported(theirs.state_dict())
    own = network.state_dict()
    assert {n: t.shape for n, t in image.items() if "patch" not in n} == {
        n: own[n].shape for n in image if "patch" not in n
    }


def test_point_05_inflated_patches_of_still_clips_are_the_images() -> None:
    weight = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    image = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    moving = torch.randn(2, 3, 4, 8, 8, dtype=torch.float64)
    expected = nn.functional.conv2d(image, weight, stride=4)
    for frames in (1, 2, 4):
        found = nn.functional.conv3d(
            image[:, :, None].expand(-1, -1, 4, -1, -1), inflated(weight, frames, "average"), stride=(frames, 4, 4)
        )
        torch.testing.assert_close(found, expected[:, :, None].expand_as(found))
        of_centre = nn.functional.conv3d(moving, inflated(weight, frames, "centre"), stride=(frames, 4, 4))
        middle = nn.functional.conv2d(moving[:, :, frames // 2], weight, stride=4)
        torch.testing.assert_close(of_centre[:, :, 0], middle)


def test_positions_are_resized_and_it_is_said() -> None:
    image = {k: t.double() for k, t in imported(torchvision_vit(side=32).state_dict()).items()}
    network = small("timesformer", "space_only")
    coverage = start_from_image(network, image, COPIES)
    assert coverage.resized == ("pos_embed",)
    torch.testing.assert_close(network.pos_embed.data, resized_positions(image["pos_embed"], 2, 2))
    assert "pos_embed resized" in coverage.line()


def test_fixed_positions_do_not_silently_replace_those_that_the_image_network_learned() -> None:
    image = {k: t.double() for k, t in imported(torchvision_vit().state_dict()).items()}
    network = small("timesformer", "space_only", positions="fixed")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ConfigError, match="positions is fixed, which would drop them; set it to learned"):
        start_from_image(network, image, COPIES)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    coverage = start_from_image(network, image | {"pos_embed": sines_and_cosines(5, 16)[None]}, COPIES)
    assert not coverage.missing
    assert not coverage.shifted
    for name in ("norm.weight", "blocks.1.space.attention.qkv.weight"):
        assert torch.equal(network.state_dict()[name], image[name])


def test_fixed_positions_one_place_after_those_of_mae_are_told_of() -> None:
    """MAE's first patch is at 0, where the class token is here; the learned table starts as MAE's."""
    image = {k: t.double() for k, t in imported(torchvision_vit().state_dict()).items()}
    mae = {name: tensor for name, tensor in image.items() if name not in ("cls_token", "pos_embed")}
    fixed, learned = (small("timesformer", "space_only", positions=kind) for kind in ("fixed", "learned"))
    coverage = start_from_image(fixed, mae, COPIES)
    assert "positions are fixed, each one place after MAE's" in coverage.line()
    assert "MAE" not in start_from_image(learned, mae, COPIES).line()
    assert torch.equal(fixed.pos_embed[:, 1:4].float(), learned.pos_embed.detach()[:, 2:].float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda image: image.pop("blocks.1.ffn.fc1.weight"),
            r"covers \d+ of \d+ .* 1 missing: blocks.1.ffn.fc1.weight",
        ),
        (lambda image: image.update({"blocks.7.ls1.gamma": torch.ones(1)}), "1 unexpected: blocks.7.ls1.gamma"),
        (
            lambda image: image.update({"norm.bias": torch.ones(7)}),
            r"of another shape: norm.bias is \(7,\) instead of \(16,\)",
        ),
    ],
)
def test_what_does_not_fit_is_listed_and_nothing_is_filled(change: Any, message: str) -> None:
    image = {k: t.double() for k, t in imported(torchvision_vit().state_dict()).items()}
    change(image)
    network = small("timesformer", "space_only")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ConfigError, match=message):
        start_from_image(network, image, COPIES)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_what_is_named_may_be_missing() -> None:
    image = {
        k: t.double() for k, t in imported(torchvision_vit().state_dict()).items() if not k.startswith("blocks.1.")
    }
    network = small("timesformer", "space_only")
    coverage = start_from_image(network, image, build(ImageInitConfig, {"may_miss": ["blocks.1.*"]}))
    assert coverage.missing
    assert all(name.startswith("blocks.1.") for name in coverage.missing)
    assert "as drawn: blocks.1." in coverage.line()


@pytest.mark.parametrize(
    "name", [key.removesuffix("/keys") for key in golden("18_full_backbones", "vtransformer") if key.endswith("/keys")]
)
def test_the_originals_layouts_are_read_whole(name: str) -> None:
    """Of each published network, from its key list: a Lightning file with a classifier."""
    from vssl.backbones.build import build_backbone
    from vssl.stages.linear_config import LinearConfig

    shapes = json.loads(str(golden("18_full_backbones", "vtransformer")[f"{name}/keys"]))
    state = {f"model.{key}": torch.empty(shape, device="meta") for key, shape in shapes.items()}
    head = {f"cls_head.cls_head.{part}": torch.zeros(1) for part in ("weight", "bias")}
    released = {
        key.replace("qkv.", "in_proj_").replace(".attn.proj.", ".attn.out_proj.") if "mvit" not in key else key: t
        for key, t in state.items()
    }
    for content in ({"state_dict": state | head, "epoch": 3}, {"state_dict": released | head, "epoch": 3}, state):
        assert is_vtransformer(content)
        assert not is_image_vit(content)
        found = import_vtransformer(content)
        backbone = {"name": found.backbone} | dict(found.backbone_config or {})
        data = {"dataset": {"name": "x"}, "num_frames": 16 if found.backbone != "timesformer" else 8, "crop_size": 224}
        with torch.device("meta"):
            network = build_backbone(build(LinearConfig, {"backbone": backbone, "data": data}).backbone)
        own = {f"backbone.{key}": tensor.shape for key, tensor in network.state_dict().items()}
        assert {key: t.shape for key, t in found.tensors.items() if key.startswith("backbone.")} == own
        rest = {key for key in found.tensors if not key.startswith("backbone.")}
        assert rest - {"mask_token", "decoder.weight", "decoder.bias"} == (
            {"head.linear.weight", "head.linear.bias"} if "state_dict" in content else set()
        )


@pytest.mark.parametrize("attention", [*VIVITS, "space_only"])
def test_weights_of_another_number_of_frames_are_resized(attention: str) -> None:
    family = "timesformer" if attention == "space_only" else "vivit"
    trained = stirred(small(family, attention))
    longer = small(family, attention, num_frames=8, image_size=32)
    longer.load_state_dict(longer.adapted(trained.state_dict()))
    assert longer(clips(2, 8, 32)).shape == (2, 16, 1, 1, 1)
    same = small(family, attention)
    same.load_state_dict(same.adapted(trained.state_dict()))
    assert torch.equal(same(clips()), trained(clips()))
