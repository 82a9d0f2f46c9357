"""Views of long videos: against the original's pixels, and what the frames of a view share (card, point 11)."""

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ImageFilter
from torch import Tensor
from torchvision.transforms import functional as colour

from tests.goldens import golden
from vssl.config import ConfigError
from vssl.data.crops import CropDraw, widest_box
from vssl.data.sampling.samplers import Dense, Long, VideoClips
from vssl.data.sampling.sampling_config import LongConfig
from vssl.data.views import augment
from vssl.data.views.augment import JitterDraw
from vssl.data.views.augment_config import SequenceAugmentConfig
from vssl.data.views.drawn import finished
from vssl.data.views.long_views import SequenceView, SequenceViews, evaluation_frames
from vssl.data.views.looks import Look
from vssl.randomness import stream

NUMBERS = golden("augment", "carl")
AREA, ASPECT = (0.8, 1.0), (3 / 4, 4 / 3)


def drawn(
    number: int, config: SequenceAugmentConfig | None = None, total: int = 40, **sampling: Any
) -> list[SequenceView]:
    maker = SequenceViews(config or SequenceAugmentConfig(), 16)
    clips = VideoClips(total, 25.0, Long(12, LongConfig(**sampling)))
    return [*maker.draw(lambda purpose: stream(number, purpose), clips)]  # type: ignore[list-item]


def test_grey_golden() -> None:
    planes = torch.from_numpy(NUMBERS["video_u8"])
    found = augment.luma(planes.float() / 255)
    assert (found - torch.from_numpy(NUMBERS["gray"])).abs().max() < 2e-4  # 0.299 of red, here 0.2989


def by_pil(planes: Tensor, operation: int, factor: float, radius: float) -> Tensor:
    """One operation of a jitter as the original does it, and the blur that follows each of them there."""
    adjust = (colour.adjust_brightness, colour.adjust_contrast, colour.adjust_saturation, colour.adjust_hue)[operation]
    images = [adjust(colour.to_pil_image(frame), factor) for frame in planes]
    if radius:
        images = [image.filter(ImageFilter.GaussianBlur(radius)) for image in images]
    return torch.stack([colour.pil_to_tensor(image) for image in images])


def test_jitter_golden() -> None:
    """Draws mean what they mean in the original, to the last level; operations on tensors are near those of PIL.

    PIL turns hues between 256 levels of hue, so that a colour may be off by some levels of its channels.
    """
    assert len(NUMBERS["jitter_draws"])
    for row, expected in zip(NUMBERS["jitter_draws"].tolist(), NUMBERS["jitter_out_u8"]):
        factors, radius = row[4:8], row[8]
        planes = torch.from_numpy(NUMBERS["video_u8"])
        for operation in map(int, row[:4]):
            ours = augment.jitter(planes, JitterDraw(*factors, order=(operation,)))
            off = (ours.int() - by_pil(planes, operation, factors[operation], 0).int()).abs()
            assert off.max() <= (10 if operation == 3 else 2)
            assert off.float().mean() < (1.5 if operation == 3 else 0.6)
            planes = by_pil(planes, operation, factors[operation], radius)
        assert np.array_equal(planes.numpy(), expected)


def test_legacy_blur_golden() -> None:
    """Whole looks against the original's pixels: with a blur after each operation near them, with one far from them.

    What is left is PIL's: hues of 256 levels, and a blur that three box filters make.
    """
    for row, expected in zip(NUMBERS["jitter_draws"].tolist(), NUMBERS["jitter_out_u8"]):
        jitter, radius = JitterDraw(*row[4:8], order=tuple(map(int, row[:4]))), row[8]
        off = {}
        for each in (True, False):
            look = Look(jitter=jitter, blur_sigma=radius or None, blur_each=bool(radius) and each)
            found = look.apply(torch.from_numpy(NUMBERS["video_u8"]), 0)
            off[each] = np.abs(found.numpy().astype(int) - expected).mean()
        assert off[True] < 3
        assert radius < 0.4 or off[False] > 4 * off[True]  # a smaller blur hardly does anything


def test_legacy_blur_is_an_option() -> None:
    blurred = SequenceAugmentConfig(blur_probability=1.0, jitter_probability=1.0)
    for legacy in (False, True):
        for view in drawn(0, replace(blurred, legacy_blur=legacy)):
            assert (view.look.blur_sigma is not None, view.look.blur_each) == (True, legacy)
        for view in drawn(0, replace(blurred, legacy_blur=legacy, jitter_probability=0.0)):
            assert (view.look.blur_sigma is not None, view.look.blur_each) == (False, False)
    one, other = (drawn(0, replace(blurred, legacy_blur=legacy))[0] for legacy in (False, True))
    assert replace(other.look, blur_each=False) == one.look  # nothing else is drawn


def original_crop(draws: random.Random, height: int, width: int) -> tuple[int, int, int, int]:
    """A box as the original takes it from Python's generator."""
    for _ in range(10):
        area, aspect = draws.uniform(*AREA), math.exp(draws.uniform(*map(math.log, ASPECT)))
        box = CropDraw(area, aspect, swap=False, left=0, top=0).box(height, width)
        if box is not None:
            return draws.randint(0, height - box[2]), draws.randint(0, width - box[3]), box[2], box[3]
    return widest_box(height, width, *ASPECT)


def test_whole_pipeline_golden() -> None:
    """Crop, flip, colours, normalisation. The crop is the original's; which colours it drew nothing says."""
    draws = random.Random(int(NUMBERS["crop_seed"]))
    for expected in NUMBERS["crop_params_many_seeded_py_random"].tolist():
        assert list(original_crop(draws, 360, 640)) == expected
    expected = torch.from_numpy(NUMBERS["ssl_pipeline_out"])
    video = torch.from_numpy(NUMBERS["video_u8"]).float()
    box = original_crop(random.Random(int(NUMBERS["ssl_pipeline_seed"])), *video.shape[-2:])
    side = expected.shape[-1]
    cropped = augment.resize(augment.crop(video, box), side, side, "bilinear", antialias=False)
    plain, mirrored = (augment.normalise(x.transpose(0, 1)).transpose(0, 1) for x in (cropped, augment.flip(cropped)))
    distances = [(x - expected).abs().max().item() for x in (plain, mirrored)]
    alike = [
        torch.corrcoef(torch.stack([x.mean(1).flatten(), expected.mean(1).flatten()]))[0, 1] for x in (plain, mirrored)
    ]
    assert min(distances) < 1e-5 or max(alike) > 0.7  # without a jitter the very pixels, with one the same picture
    assert abs(alike[0] - alike[1]) > 0.3


def test_evaluation_frames_golden() -> None:
    frames = torch.from_numpy(NUMBERS["video_u8"]).permute(0, 2, 3, 1)
    for key, square in (("eval_pipeline_out", "side"), ("eval_pipeline_nocrop_out", None)):
        side = NUMBERS[key].shape[-1]
        found = evaluation_frames(frames, side, side if square else None)
        levels = (torch.from_numpy(NUMBERS[key]).transpose(0, 1) - augment.normalise(found.transpose(0, 1))).abs()
        assert levels.max() < 1.01 / 255 / 0.224  # in whole levels, where the original's are floats


def test_evaluation_takes_the_centre_as_it_is_or_squeezes() -> None:
    frames = torch.arange(4 * 30 * 50).view(4, 30, 50, 1).expand(-1, -1, -1, 3).remainder(251).to(torch.uint8)
    planes = augment.to_planes(frames)
    assert torch.equal(evaluation_frames(frames, 20, 20), planes[..., 5:25, 15:35])
    assert torch.equal(evaluation_frames(frames, 30, 0), planes[..., :, 10:40])
    whole = augment.resize(planes, 20, 20, "bilinear", antialias=False)
    assert torch.equal(evaluation_frames(frames, 20, None), whole)
    assert torch.equal(evaluation_frames(frames, 20, 224), whole)  # smaller than the square


def test_point_11_all_frames_of_a_view_are_treated_alike() -> None:
    still = torch.randint(0, 256, (1, 30, 40, 3), dtype=torch.uint8).repeat(12, 1, 1, 1)
    looks = set()
    for number in range(20):
        for view in drawn(number):
            applied = finished(view, still, 0)
            assert applied.shape == (3, 12, 16, 16)
            assert torch.equal(applied, applied[:, :1].expand_as(applied))
            looks.add((view.look, view.crops[0]))
    assert len(looks) == 40  # every view has draws of its own


def test_views_meet_their_probabilities() -> None:
    views = [view for number in range(1500) for view in drawn(number)]
    jittered = [view for view in views if view.look.jitter is not None]
    assert len(jittered) / len(views) == pytest.approx(0.8, abs=0.03)
    assert np.mean([view.look.blur_sigma is not None for view in jittered]) == pytest.approx(0.5, abs=0.03)
    assert all(view.look.blur_sigma is None for view in views if view.look.jitter is None)
    assert np.mean([view.look.flip for view in views]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([view.look.luma is not None for view in views]) == pytest.approx(0.2, abs=0.03)
    factors = [view.look.jitter.brightness for view in jittered if view.look.jitter]
    assert 0.2 <= min(factors) < 0.25
    assert 1.75 < max(factors) <= 1.8


def test_a_view_knows_its_frames_and_which_of_its_slots_show_none() -> None:
    for number in range(20):
        for view in drawn(number, total=9):
            shown = view.steps < 9
            assert np.array_equal(view.indices, view.steps.clip(0, 8))
            assert not shown[-3:].any()  # 12 slots, 9 frames
    (view,) = drawn(0, SequenceAugmentConfig(num_views=1), frames="uniform", num_context_frames=2, context_stride=3)
    assert np.array_equal(view.indices[1::2], view.steps)
    assert np.array_equal(view.indices[::2], (view.steps - 3).clip(0))
    (pairs,) = drawn(0, SequenceAugmentConfig(num_views=1), frames="pairs")
    assert set(pairs.steps[::2] - pairs.steps[1::2]) <= {1, 2, 3, 4, 5}


def test_point_06_crops_in_time_overlap() -> None:
    """Without them, views begin with the video."""
    for number in range(100):
        one, other = drawn(number, total=200, crops_in_time=True)
        assert abs(int(one.steps[0]) - int(other.steps[0])) <= int(0.8 * 12) + 6  # first frames lie within the blocks
        assert int(one.steps[-1]) - int(one.steps[0]) < 1.5 * 12
    spans = [view.steps[0] for number in range(50) for view in drawn(number, total=200)]
    assert max(spans) < 100


def test_a_squeezed_view_shows_all_of_the_frame() -> None:
    config = SequenceAugmentConfig(crop_area=None, flip_probability=0, jitter_probability=0, grey_probability=0)
    frames = torch.randint(0, 256, (12, 30, 40, 3), dtype=torch.uint8)
    view = drawn(0, config)[0]
    expected: Tensor = augment.to_view(augment.resize(augment.to_planes(frames), 16, 16, "bilinear", antialias=False))
    assert torch.equal(finished(view, frames, 0), expected)


def test_clips_are_no_long_views() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.name to long"):
        SequenceViews(SequenceAugmentConfig(), 16).draw(stream, VideoClips(30, 25.0, Dense(4, 1)))
