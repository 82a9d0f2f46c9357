"""Boxes of crops, against the numbers of the original systems and brute force."""

import json
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.goldens import golden, golden_tensors
from vssl.data.crops import Box, CropDraw, before_resize, centre_box, scaled_size, three_crops, widest_box
from vssl.data.sampling.samplers import VideoClips, build_sampler
from vssl.data.sampling.sampling_config import SegmentsConfig
from vssl.data.views import augment
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.drawn import finished
from vssl.data.views.resized_views import ScaledSquare
from vssl.data.views.view_makers import view_for_testing

FGKV_AREA, FGKV_ASPECT = (0.2, 0.766), (0.75, 1.3333)
CARL_AREA, CARL_ASPECT = (0.8, 1.0), (3 / 4, 4 / 3)
STS_AREA, STS_ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
STS_STATISTICS = tuple(
    tuple(v / 255 for v in values) for values in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
)

sides = st.integers(8, 700), st.integers(8, 700), st.integers(1, 300)


def python_attempts(
    draws: random.Random, area: tuple[float, float], aspect: tuple[float, float], height: int, width: int
) -> Box | None:
    """The crop that the originals draw, attempt by attempt, from Python's generator; our arithmetic, their draws."""
    for _ in range(10):
        share = draws.uniform(*area)
        ratio = math.exp(draws.uniform(math.log(aspect[0]), math.log(aspect[1])))
        box = CropDraw(share, ratio, swap=False, left=0, top=0).box(height, width)
        if box is not None:
            return draws.randint(0, height - box[2]), draws.randint(0, width - box[3]), box[2], box[3]
    return None


def test_scaled_sizes_equal_the_originals() -> None:
    for height, width, side, *expected in golden("spatial_sampling", "fgkvmem")["short_side"].tolist():
        assert list(scaled_size(height, width, side)) == expected
    for height, width, side, *expected in golden("augment", "sts")["short_side_resize"].tolist():
        assert list(scaled_size(height, width, side, "nearest")) == expected


@given(*sides)
def test_a_scaled_frame_keeps_its_aspect(height: int, width: int, side: int) -> None:
    exact = max(height, width) / min(height, width) * side
    for rounding, error in (("down", 1), ("nearest", 0.5)):
        found = scaled_size(height, width, side, rounding)
        assert min(found) == side
        assert abs(max(found) - exact) <= error + 1e-9
        assert (found[0] <= found[1]) == (height <= width) or found[0] == found[1]


def test_three_crops_equal_the_originals() -> None:
    table = golden("spatial_sampling", "fgkvmem")["uniform_crop"]
    assert len(table)
    for height, width, side, number, top, left in table.tolist():
        frames = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8)
        square = ScaledSquare(np.arange(1), side, min(height, width), number, "fgkvmem").crop(frames)
        assert torch.equal(square, augment.to_planes(frames)[..., top : top + side, left : left + side])
    numbers = golden("views", "sts")
    shapes = [key.removesuffix("_imgs") for key in numbers if key.startswith("three_") and key.endswith("_imgs")]
    assert shapes
    for shape in shapes:
        images, expected = torch.from_numpy(numbers[f"{shape}_imgs"]), numbers[f"{shape}_out"]
        num_frames, side = expected.shape[2:4]  # of (crops * clips, 3, T, S, S)
        clips = VideoClips(len(images), 25.0, build_sampler(SegmentsConfig(), num_frames, 1))
        config = TestViewConfig(num_clips=len(images) // num_frames, num_crops=3, short_side=side)
        drawn = view_for_testing(config, side).draw(lambda purpose: torch.Generator(), clips)
        boxes = numbers[f"{shape}_bbox"].reshape(len(drawn), num_frames, 4)
        assert (boxes == boxes[:, :1]).all()
        for view, (left, top, right, bottom) in zip(drawn, boxes[:, 0].tolist(), strict=True):
            frames = images[view.indices]
            assert torch.equal(view.crop(frames), augment.to_planes(frames)[..., top:bottom, left:right])
        views = torch.stack([finished(view, images[view.indices], 0) for view in drawn])
        assert np.abs(augment.normalise(views, STS_STATISTICS).numpy() - expected).max() < 1e-5


def drawn_views(side: int, **config: Any) -> Sequence[Any]:
    """The views of one clip, as stages make them."""
    clips = VideoClips(8, 25.0, build_sampler(SegmentsConfig(), 4, 2))
    maker = view_for_testing(TestViewConfig(num_clips=1, **config), side)
    return maker.draw(lambda purpose: torch.Generator(), clips)


def test_point_15_video_transformer_crops_equal_the_originals() -> None:
    numbers = golden_tensors("16_views", "vtransformer")
    clip, side = numbers["clip"], numbers["center_crop"].shape[-1]
    frames, seen = clip.permute(0, 2, 3, 1), {"short_side": min(clip.shape[-2:]), "rounding": "torchvision"}
    crops, centre = (
        torch.stack([view.crop(frames) for view in drawn_views(side, num_crops=count, **seen)]) for count in (3, 1)
    )
    assert torch.equal(crops, numbers["three_crop"]), "start, end, middle"
    assert torch.equal(centre[0], numbers["center_crop"])
    views = torch.stack([augment.to_view(crop) for crop in crops])
    normalised = augment.normalise(views, augment.KINETICS).transpose(1, 2)
    assert (normalised - numbers["three_crop_normalised"]).abs().max() < 1e-6


@given(*sides)
def test_three_crops_cover_what_they_can(height: int, width: int, side: int) -> None:
    if min(height, width) < side:
        with pytest.raises(ValueError, match="resize the short side"):
            three_crops(height, width, side)
        return
    for halves in ("down", "nearest"):
        for even in (False, True):
            boxes = three_crops(height, width, side, halves=halves, even=even and halves == "down")
            for top, left, crop_height, crop_width in boxes:
                assert crop_height == crop_width == side
                assert 0 <= top <= height - side
                assert 0 <= left <= width - side
            long, axis = max(height, width), int(height <= width)
            offsets = [box[axis] for box in boxes]
            assert offsets[0] == 0
            assert offsets[2] - (long - side) in ((0,) if not (even and halves == "down") else (0, -1))
            assert abs(2 * offsets[1] - (long - side)) <= 1
            if long <= 3 * side:
                assert offsets[1] <= side  # no pixel of the longer side is missed
                assert offsets[2] - offsets[1] <= side


def test_fgkvmem_crops_equal_the_originals() -> None:
    rows = golden("spatial_sampling", "fgkvmem")["rrc_params"].tolist()

    def found(row: int, which_set: int) -> list[int]:
        height, width = rows[row][:2]
        box = python_attempts(random.Random(row + 1000 * which_set), FGKV_AREA, FGKV_ASPECT, height, width)
        assert box is not None
        return list(box)

    which_set = next(number for number in range(1000) if found(0, number) == rows[0][2:])
    assert all(found(row, which_set) == rows[row][2:] for row in range(len(rows)))


def test_fgkvmem_crop_and_resize_equal_the_originals() -> None:
    numbers = golden_tensors("spatial_sampling", "fgkvmem")
    expected = numbers["resize_out_8x8"]
    cropped = augment.crop(numbers["resize_in"], tuple(numbers["crop_ijhw"].tolist()))
    found = augment.resize(cropped, *expected.shape[-2:], "bilinear", antialias=False)
    assert (found - expected).abs().max() < 1e-6


def test_carl_crops_equal_the_originals() -> None:
    numbers = golden("augment", "carl")
    draws = random.Random(int(numbers["crop_seed"]))
    for row in numbers["crop_params_many_seeded_py_random"].tolist():
        box = python_attempts(draws, CARL_AREA, CARL_ASPECT, 360, 640)
        assert list(box or widest_box(360, 640, *CARL_ASPECT)) == row


def test_carl_pixels_equal_the_originals() -> None:
    numbers = golden_tensors("augment", "carl")
    frames = numbers["video_u8"]
    video = frames.float() / 255

    def near(found: torch.Tensor, expected: torch.Tensor) -> bool:
        return bool((found - expected).abs().max() < 1e-6)

    for box, expected in zip(numbers["crop_ijhw"].tolist(), numbers["crop_out"]):
        cropped = augment.resize(augment.crop(video, tuple(box)), *expected.shape[-2:], "bilinear", antialias=False)
        assert near(cropped, expected)
    assert near(augment.flip(video), numbers["flip"])
    side = numbers["uniform_crop_16"].shape[-1]
    central = augment.crop(video, centre_box(*video.shape[-2:], side, side, halves="nearest"))
    assert near(central, numbers["uniform_crop_16"])
    resized = numbers["resize_20"]
    assert near(augment.resize(video, *resized.shape[-2:], "bilinear", antialias=False), resized)

    def normalised(planes: torch.Tensor) -> torch.Tensor:
        return augment.normalise((planes * 255).transpose(0, 1)).transpose(0, 1)

    assert near(normalised(video), numbers["normalised"])
    assert near(normalised(central), numbers["eval_pipeline_out"])
    squeezed = augment.resize(video, side, side, "bilinear", antialias=False)
    assert near(normalised(squeezed), numbers["eval_pipeline_nocrop_out"])


def test_sts_crops_equal_the_originals() -> None:
    numbers = golden("augment", "sts")
    for row in numbers["train_lazy"]:
        seed, height, width, new_height, new_width = row[:5].astype(int).tolist()
        legacy, python = np.random.RandomState(seed), random.Random(seed)
        aspects = np.exp(legacy.uniform(*np.log(STS_ASPECT), size=10))
        areas = legacy.uniform(*STS_AREA, size=10)
        tried = (CropDraw(a, r, swap=False, left=0, top=0).box(new_height, new_width) for a, r in zip(areas, aspects))
        box = next((box for box in tried if box is not None), None)
        assert box is not None
        left = python.randint(0, new_width - box[3])
        top = python.randint(0, new_height - box[2])
        assert [left, top, left + box[3], top + box[2]] == row[5:9].tolist()
        drawn = (top, left, box[2], box[3])
        found = before_resize(drawn, (new_height, new_width), (height, width))
        left, top, right, bottom = np.round(row[9:13]).astype(int)
        assert found == (top, left, bottom - top, right - left)
        assert (legacy.rand() < 0.5) == bool(row[13])


def test_sts_central_crops_equal_the_originals() -> None:
    """Boxes of a validation that crops the frame as decoded: the arithmetic is held, tests of stages scale first."""
    for row in golden("augment", "sts")["val_lazy"]:
        height, width = row[:2].astype(int).tolist()
        left, top, right, bottom = row[2:6].astype(int).tolist()
        crop = (top, left, bottom - top, right - left)
        # The file does not say what the short side was scaled to: where the crop lies leaves a few sizes.
        sizes = (scaled_size(height, width, side, "nearest") for side in range(crop[2], 2 * crop[2]))
        possible = [size for size in sizes if centre_box(*size, crop[2], crop[3]) == crop]
        left, top, right, bottom = row[10:14].astype(int).tolist()
        found = [before_resize(crop, size, (height, width)) for size in possible]
        assert (top, left, bottom - top, right - left) in found


def test_sts_pixels_equal_the_originals() -> None:
    numbers = golden("augment", "sts")
    left, top, right, bottom = np.round(numbers["pipe_bbox"]).astype(int).tolist()
    planes = augment.crop(
        augment.to_planes(torch.from_numpy(numbers["pipe_in"])), (top, left, bottom - top, right - left)
    )
    expected = numbers["pipe_fused"]
    found = augment.resize(planes, *expected.shape[1:3], "bilinear", antialias=False)
    if int(numbers["pipe_flip"]):
        found = augment.flip(found)
    assert np.abs(found.permute(0, 2, 3, 1).numpy().astype(int) - expected).max() <= 3
    views = torch.from_numpy(expected).permute(3, 0, 1, 2)
    normalised = augment.normalise(views, STS_STATISTICS).permute(1, 2, 3, 0)
    assert np.abs(normalised.numpy() - numbers["pipe_norm"]).max() < 1e-5


def test_sts_candidates_equal_the_originals() -> None:
    numbers = golden("augment", "sts")
    height, width = numbers["rrc_img"].tolist()
    fits = []
    for area, aspect, crop_width, crop_height in zip(
        *(numbers[f"rrc_{name}"] for name in ("area_frac", "aspect", "cw", "ch"))
    ):
        box = CropDraw(area, aspect, swap=False, left=0, top=0).box(height, width)
        fits.append(box is not None)
        assert (box is not None) == (crop_width <= width and crop_height <= height)
        assert box is None or box[2:] == (crop_height, crop_width)
    assert fits.index(True) == int(numbers["rrc_first_valid"])


@given(st.integers(1, 400), st.integers(1, 400), st.floats(0.3, 1), st.floats(1, 3))
def test_the_widest_box_is_in_bounds_and_touches_two_sides(
    height: int, width: int, narrowest: float, widest: float
) -> None:
    top, left, crop_height, crop_width = widest_box(height, width, narrowest, widest)
    assert 0 <= top <= top + crop_height <= height
    assert 0 <= left <= left + crop_width <= width
    assert crop_height == height or crop_width == width
    if narrowest <= width / height <= widest:
        assert (crop_height, crop_width) == (height, width)


def test_columns_are_what_the_tests_take_them_for() -> None:
    arrays = golden("spatial_sampling", "fgkvmem")
    assert json.loads(str(arrays["short_side_columns"])) == ["h", "w", "size", "new_h", "new_w"]
    assert json.loads(str(arrays["uniform_crop_columns"]))[-2:] == ["y0", "x0"]
