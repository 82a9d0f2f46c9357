"""MaskFeat's targets, masks, loss and network against the original's (card, section 11, points 8 to 10)."""

import json
import math
import random
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from tests.goldens import golden, golden_tensors
from tests.vicc_steps import at
from tests.vtransformers import tiny_of_file
from vssl.backbones.backbone_config import MViTBConfig
from vssl.backbones.mvit import MViTB
from vssl.config import ConfigError, build
from vssl.losses.masked_regression import masked_regression
from vssl.methods import load_method, maskfeat
from vssl.methods.maskfeat import MaskFeat, centre_weights
from vssl.methods.maskfeat_config import MaskFeatConfig
from vssl.nn.cube_mask import CubeMask, draw_cube_mask
from vssl.nn.hog import hog_cells, hog_targets
from vssl.randomness import seeded
from vssl.stages.pretrain_config import PretrainConfig


def test_point_08_hog_golden() -> None:
    arrays = golden_tensors("10_hog", "vtransformer")
    image, target = arrays["image"].movedim(-1, 0).float(), arrays["target"]
    patch = image.shape[-1] // target.shape[1]
    torch.testing.assert_close(hog_targets(image, patch), target.float(), rtol=0, atol=1e-5)
    small = arrays["small_hog"].float()
    found = hog_cells(arrays["small"].float())
    torch.testing.assert_close(found, small.reshape(found.shape), rtol=0, atol=1e-5)


def slow_cell(image: Tensor, row: int, column: int) -> list[float]:
    """A cell's histogram, pixel by pixel."""
    height, width = image.shape
    sums = [0.0] * 9
    for y in range(8 * row, 8 * row + 8):
        for x in range(8 * column, 8 * column + 8):
            down = (image[y + 1, x] - image[y - 1, x]).item() if 0 < y < height - 1 else 0.0
            right = (image[y, x + 1] - image[y, x - 1]).item() if 0 < x < width - 1 else 0.0
            sums[int(math.degrees(math.atan2(down, right)) % 180 // 20) % 9] += math.hypot(down, right) / 64
    return [value / math.sqrt(sum(v * v for v in sums) + 1e-10) for value in sums]


def test_point_08_clips_at_once_are_cells_one_by_one() -> None:
    frames = torch.randint(256, (2, 3, 24, 16), generator=torch.Generator().manual_seed(0)).double()
    found = hog_cells(frames)
    assert found.shape == (2, 3, 3, 2, 9)
    for frame, colour, row, column in ((0, 0, 0, 0), (1, 2, 2, 1), (1, 0, 1, 1)):
        expected = torch.tensor(slow_cell(frames[frame, colour], row, column), dtype=torch.float64)
        torch.testing.assert_close(found[frame, colour, row, column], expected, rtol=0, atol=1e-9)


def test_point_08_flat_cells_are_zero_and_others_are_of_length_one_at_any_contrast() -> None:
    image = torch.randint(256, (16, 24), generator=torch.Generator().manual_seed(1)).float()
    image[:, 8:] = 7.0
    image[:, 7] = 7.0  # no contrast leaks over
    lengths = hog_cells(image).norm(dim=-1)
    assert torch.equal(lengths[:, 1:], torch.zeros(2, 2))
    assert (lengths[:, 0] > 0.999).all()
    assert (lengths[:, 0] <= 1 + 1e-6).all()
    torch.testing.assert_close(hog_cells(image / 2), hog_cells(image), rtol=0, atol=1e-4)


def test_targets_of_normalised_clips_are_those_of_their_levels() -> None:
    """So that no second clip needs to come from the loaders."""
    levels = torch.randint(256, (1, 3, 4, 32, 32), generator=torch.Generator().manual_seed(2)).float()
    levels[..., :16] = levels[..., :16].round(decimals=-2)  # flat places too
    normalised = (levels / 255 - 0.45) / 0.225
    torch.testing.assert_close(
        hog_targets(255 * 0.225 * normalised.transpose(1, 2)), hog_targets(levels.transpose(1, 2)), rtol=0, atol=1e-4
    )


def test_sides_that_are_no_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 12x16 do not divide into cells of 8"):
        hog_cells(torch.zeros(12, 16))


CASES = json.loads(str(golden("11_cube_mask", "vtransformer")["meta"]))


@pytest.mark.parametrize("number", range(len(CASES)))
def test_point_09_cube_masks_golden(number: int) -> None:
    case, arrays = CASES[number], golden("11_cube_mask", "vtransformer")
    grid = tuple(case["input_size"])
    config = MaskFeatConfig(masking="original", mask_ratio=case.get("mask_ratio", 0.4))
    frames, patches = config.hides(grid)
    mask = draw_cube_mask(
        grid, frames=frames, patches=patches, smallest=case["min_num_patches"], random=random.Random(case["seed"])
    )
    np.testing.assert_array_equal(mask.hidden, arrays[f"mask{number}"].astype(bool))
    assert [list(cube) for cube in mask.cubes] == arrays[f"marker{number}"].tolist()
    assert sorted(mask.centres(2)) == np.flatnonzero(arrays[f"center{number}"]).tolist()


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["original", "volume"]))
def test_point_09_what_is_hidden_is_within_its_budget(seed: int, masking: Any) -> None:
    grid = (8, 14, 14)
    frames, patches = MaskFeatConfig(masking=masking).hides(grid)
    assert masking != "original" or (frames, patches) == (3, 78)
    mask = draw_cube_mask(grid, frames=frames, patches=patches, smallest=16, random=random.Random(seed))
    by_frame = mask.hidden.reshape(8, -1).sum(axis=1)
    assert (by_frame > 0).sum() == frames
    assert by_frame.max() <= patches
    covered = [frame for start, length in mask.cubes for frame in range(start, start + length)]
    assert len(covered) == len(set(covered)) == frames
    for centre, (start, length) in zip(mask.centres(2), mask.cubes):
        assert by_frame[centre // 2] > 0
        assert start <= centre // 2 < start + length


@pytest.mark.parametrize(("masking", "share"), [("original", 0.148), ("volume", 0.39)])
def test_what_is_hidden_on_average(masking: Any, share: float) -> None:
    grid = (8, 14, 14)
    frames, patches = MaskFeatConfig(masking=masking).hides(grid)
    found = [
        draw_cube_mask(grid, frames=frames, patches=patches, smallest=16, random=random.Random(seed)).hidden.mean()
        for seed in range(200)
    ]
    assert np.mean(found) == pytest.approx(share, abs=0.01)


def markers_to_masks(arrays: dict[str, Tensor], markers: list[list[list[int]]]) -> list[CubeMask]:
    return [
        CubeMask(mask.bool().numpy(), tuple((start, length) for start, length in cubes))
        for mask, cubes in zip(arrays["mask"], markers)
    ]


def test_point_10_loss_golden() -> None:
    arrays = golden_tensors("12_maskfeat_loss", "vtransformer")
    markers = json.loads(str(golden("12_maskfeat_loss", "vtransformer")["markers"]))
    masks = markers_to_masks(arrays, markers)
    weight = centre_weights(masks, arrays["mask"].bool())
    assert torch.equal(weight.flatten(2).any(dim=2) | ~arrays["center_index"], torch.ones_like(arrays["center_index"]))
    out = arrays["decoder_out"].double()[:, 1:]
    batch, length, height, width = arrays["mask"].shape
    split = out.view(batch, length, height, width, 2, -1).movedim(4, 2).flatten(1, 2)
    torch.testing.assert_close(split, arrays["pred"].double(), rtol=0, atol=1e-12)
    prediction = split.clone().requires_grad_(True)
    loss = masked_regression(prediction, arrays["target"].double(), weight)
    torch.testing.assert_close(loss, arrays["loss"].double(), rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert torch.equal(gradient.abs().sum(-1) > 0, weight > 0)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"weight \(2, 4\)"):
        masked_regression(torch.zeros(2, 3, 5), torch.zeros(2, 3, 5), torch.zeros(2, 4))


def test_point_10_network_golden() -> None:
    network, tensors, arrays = tiny_of_file()
    method = MaskFeat(MaskFeatConfig(), network, seed=0, target_dim=len(tensors["decoder.weight"]) // 2).double()
    method.mask_token.data = tensors["mask_token"]
    method.decoder.load_state_dict({key: tensors[f"decoder.{key}"] for key in ("weight", "bias")})
    clips, hidden = arrays["x"].transpose(1, 2), arrays["mask"].bool()
    tokens = network.encoded(clips, lambda patches: method._behind_token(patches, hidden))
    torch.testing.assert_close(tokens, arrays["features_masked"], rtol=0, atol=1e-9)
    prediction = method.predict(clips, hidden)
    torch.testing.assert_close(prediction, arrays["pred"], rtol=0, atol=1e-9)
    markers = json.loads(str(golden("13_maskfeat_mvit_tiny", "vtransformer")["markers"]))
    weight = centre_weights(markers_to_masks(arrays, markers), hidden)
    loss = masked_regression(prediction, arrays["target"], weight)
    torch.testing.assert_close(loss, arrays["loss"], rtol=0, atol=1e-9)


def tiny(**knobs: Any) -> MaskFeat:
    config = build(MaskFeatConfig, {"mask_ratio": 0.5, "smallest_rectangle": 2} | knobs)
    method = load_method("maskfeat")(
        config, MViTBConfig(width=4, num_frames=4, image_size=64), global_batch_size=2, seed=0
    )
    assert isinstance(method, MaskFeat)
    return method


def batch(n: int = 0) -> dict[str, Any]:
    clips = torch.randn(2, 1, 3, 4, 64, 64, generator=torch.Generator().manual_seed(n))
    return {"streams": {"rgb": clips}}


def test_point_10_everything_learns_in_pretraining_and_what_is_hidden_is_not_seen() -> None:
    method = tiny()
    loss, scalars = method(batch(), at(0, 2))
    loss.backward()
    still = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [name for name in still if "class" not in name], "the class token alone may be idle in the last block"
    assert method.mask_token.grad is not None
    assert 0 < float(scalars["masked_share"]) < 0.5
    clips = batch()["streams"]["rgb"][:, 0]
    hidden = torch.ones(2, 2, 4, 4, dtype=torch.bool)
    assert torch.equal(method.predict(clips, hidden), method.predict(clips + 1, hidden))


def test_the_loss_is_of_all_frames_and_histograms_of_those_with_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its slow twin has targets of every frame, most with a weight of 0."""
    method, clips, position, seen = tiny(), batch()["streams"]["rgb"][:, 0], at(0, 2), []

    def counted(frames: Tensor) -> Tensor:
        seen.append(frames)
        return hog_targets(frames)

    monkeypatch.setattr(maskfeat, "hog_targets", counted)
    loss, _ = method(batch(), position)
    masks = method.masks(clips, position)
    hidden = torch.from_numpy(np.stack([mask.hidden for mask in masks]))
    prediction, levels = method.predict(clips, hidden), 255 * 0.225 * clips.transpose(1, 2)
    expected = masked_regression(prediction, hog_targets(levels), centre_weights(masks, hidden))
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    centres = [frame for clip, mask in zip(levels, masks) for frame in clip[mask.centres(2)]]
    assert len(centres) < levels.shape[0] * levels.shape[1]
    assert torch.equal(torch.cat(seen), torch.stack(centres))


def test_masks_are_a_function_of_the_step_and_the_clips_place() -> None:
    method, clips = tiny(), batch()["streams"]["rgb"][:, 0]
    masks = [[mask.hidden.tolist() for mask in method.masks(clips, at(step, 2))] for step in (0, 0, 1)]
    assert masks[0] == masks[1] != masks[2]
    assert masks[0][0] != masks[0][1]


def test_point_10_later_stages_get_a_backbone_without_decoder() -> None:
    method = tiny()
    weights = method.weights()
    with seeded(1):
        fresh = MViTB(4, 4, 64)
    fresh.load_state_dict({n.removeprefix("backbone."): t for n, t in weights.items() if n.startswith("backbone.")})
    assert {name for name in weights if not name.startswith("backbone.")} == {
        "mask_token", "decoder.weight", "decoder.bias",
    }  # fmt: skip


def test_point_01_parameters_of_the_published_network() -> None:
    with torch.device("meta"):
        method = MaskFeat(MaskFeatConfig(), MViTB(96, 16, 224), seed=0)
    assert sum(p.numel() for p in method.parameters()) == 36_466_488


def test_half_precision_ends_at_the_tokens() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = tiny()(batch(), at(0, 2))
    assert loss.dtype == torch.float32
    assert loss.isfinite()


def masking(**changes: Any) -> PretrainConfig:
    given: dict[str, Any] = {
        "epochs": 2, "global_batch_size": 2, "method": {"name": "maskfeat"}, "augment": {"name": "random-resized-crop"},
        "backbone": {"name": "mvit_b", "width": 4, "num_frames": 4, "image_size": 64},
        "data": {"dataset": {"name": "x"}, "num_frames": 4, "crop_size": 64},
    }  # fmt: skip
    return build(PretrainConfig, given | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": {"name": "tiny"}}, "backbone.name is tiny, and maskfeat reads the tokens of mvit_b"),
        ({"augment": {"name": "two-view"}}, "augment.name is two-view and method.name is maskfeat"),
        (
            {"method": {"name": "maskfeat", "masking": "original", "mask_ratio": 0.4}},
            "mask_ratio is 0.4, which of 2 x 4",
        ),
        ({"data": {"dataset": {"name": "x"}, "num_frames": 8, "crop_size": 64}}, "backbone.num_frames is 4 and"),
    ],
)
def test_what_cannot_be_masked_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        masking(**changes)
