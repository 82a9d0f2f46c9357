"""Views of STS: which clips and squares, in which order, and that both ways of cropping show the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode, functional

from vssl.config import ConfigError, build
from vssl.data.crops import three_crops
from vssl.data.sampling.samplers import VideoClips, build_sampler
from vssl.data.sampling.sampling_config import SegmentsConfig
from vssl.data.views import augment
from vssl.data.views.augment_config import RandomResizedCropAugmentConfig, ResizedCropAugmentConfig, TestViewConfig
from vssl.data.views.clip_views import RandomResizedCropView
from vssl.data.views.drawn import Streams
from vssl.data.views.image_views import CentralViews
from vssl.data.views.rand_augment_config import RandAugmentConfig
from vssl.data.views.resized_views import ResizedCrop, ResizedCropView, ScaledSquare, ScaledTestView
from vssl.data.views.view_makers import view_for_testing, view_for_training
from vssl.randomness import stream

VIDEO = VideoClips(40, 25.0, build_sampler(SegmentsConfig(), 4, 2))
IMAGE = VideoClips(1, 25.0, build_sampler(SegmentsConfig(), 1, 1))


def frames(height: int, width: int, count: int = 4) -> torch.Tensor:
    """Smooth, so that a pixel says where it is."""
    rows, columns = torch.meshgrid(torch.linspace(0, 200, height), torch.linspace(0, 200, width), indexing="ij")
    return torch.stack([rows, columns, rows / 2 + columns / 2], dim=-1).round().to(torch.uint8).expand(count, -1, -1, 3)


def streams(number: int) -> Streams:
    return lambda purpose: stream("view", number, purpose)


@pytest.mark.parametrize(("height", "width"), [(64, 90), (90, 64), (64, 64)])
def test_point_10_three_squares_start_end_middle_each_with_all_clips(height: int, width: int) -> None:
    config = TestViewConfig(num_clips=2, num_crops=3, short_side=48)
    view = view_for_testing(config, 48)
    assert isinstance(view, ScaledTestView)
    drawn = view.draw(streams(0), VIDEO)
    clips = VIDEO.spread(2)
    assert [one.indices.tolist() for one in drawn] == [clip.tolist() for _ in range(3) for clip in clips]
    assert all(isinstance(one, ScaledSquare) for one in drawn)
    assert [one.place for one in drawn] == [0, 0, 2, 2, 1, 1]
    shown = [one.crop(frames(height, width)) for one in drawn]
    assert {tuple(one.shape) for one in shown} == {(4, 3, 48, 48)}
    if height != width:
        along = 0 if height > width else 1
        means = [one[:, along].double().mean().item() for one in shown[::2]]
        assert means[0] < means[2] < means[1]
    assert three_crops(48, 71, 48, even=True)[2][1] == 22  # twice the middle's offset, a pixel before the end


def test_one_square_is_the_centre() -> None:
    (view,) = ScaledTestView(TestViewConfig(num_clips=1, short_side=56), 48).draw(streams(0), VIDEO)
    square = view.crop(frames(56, 80))
    expected = augment.crop(augment.to_planes(frames(56, 80)), (4, 16, 48, 48))
    assert torch.equal(square, expected)


def test_transformers_have_the_square_and_the_pixels_of_torchvision() -> None:
    """The public code's resize and centre crop, on sizes where the room is odd."""
    for height, width in ((60, 113), (90, 131), (97, 60)):
        planes = augment.to_planes(frames(height, width))
        for resampling, mode in (("bilinear", InterpolationMode.BILINEAR), ("bicubic", InterpolationMode.BICUBIC)):
            config = TestViewConfig(num_clips=1, short_side=56, rounding="torchvision", resampling=resampling)
            (view,) = view_for_testing(config, 48).draw(streams(0), VIDEO)
            scaled = functional.resize(planes, 56, interpolation=mode, antialias=resampling == "bicubic")
            expected = functional.center_crop(scaled, 48)
            assert (view.crop(frames(height, width)).int() - expected.int()).abs().max() <= 1


def test_a_crop_of_the_scaled_frame_is_cut_of_the_frame_as_decoded() -> None:
    config = ResizedCropAugmentConfig(short_side=48)
    view = view_for_training(config, 32)
    assert isinstance(view, ResizedCropView)
    flips = 0
    for number in range(40):
        (drawn,) = view.draw(streams(number), VIDEO)
        assert isinstance(drawn, ResizedCrop)
        flips += drawn.look.flip
        original = frames(96, 120)
        found = drawn.crop(original).double()
        scaled = augment.resize(augment.to_planes(original), 48, 60, "bilinear", antialias=False)
        top, left, height, width = next(box for crop in drawn.crops if (box := crop.box(48, 60)) is not None)
        twice = augment.resize(augment.crop(scaled, (top, left, height, width)), 32, 32, "bilinear", antialias=False)
        assert (found - twice.double()).abs().max() <= 6  # a resize of a resize, on a slope of 2 to 4 levels a pixel
        assert found.shape == (4, 3, 32, 32)
    assert 10 < flips < 30


def test_where_no_crop_fits_the_middle_square_is_taken() -> None:
    config = build(ResizedCropAugmentConfig, {"short_side": 20, "crop_area": [1.0, 1.0], "crop_aspect": [1.0, 1.0]})
    (drawn,) = ResizedCropView(config, 16).draw(streams(0), VIDEO)
    shown = drawn.crop(frames(20, 80))
    expected = augment.resize(
        augment.crop(augment.to_planes(frames(20, 80)), (0, 30, 20, 20)), 16, 16, "bilinear", antialias=False
    )
    assert torch.equal(shown, expected)


def test_images_are_cropped_mirrored_and_operated_on() -> None:
    config = RandomResizedCropAugmentConfig(jitter_probability=0.0, rand_augment=RandAugmentConfig())
    view = RandomResizedCropView(config, 24)
    drawn = [view.draw(streams(number), IMAGE)[0] for number in range(60)]
    assert {one.crop(frames(50, 70, 1)).shape for one in drawn} == {(1, 3, 24, 24)}
    assert 15 < sum(one.look.flip for one in drawn) < 45
    assert {len(one.look.operations) for one in drawn} == {0, 1, 2}
    plain = RandomResizedCropView(replace(config, rand_augment=None), 24)
    same = [plain.draw(streams(number), IMAGE)[0] for number in range(60)]
    assert [one.look.flip for one in same] == [one.look.flip for one in drawn]
    assert not any(one.look.operations for one in same)


def test_central_squares_cover_their_share_of_the_short_side() -> None:
    views = CentralViews((0.875, 0.95), 224).draw(streams(0), IMAGE)
    assert [(one.short_side, one.side) for one in views] == [(256, 224), (235, 224)]
    wide, narrow = (one.crop(frames(300, 400, 1)) for one in views)
    assert wide.shape == narrow.shape == (1, 3, 224, 224)
    spans = [int(np.ptp(one[0, 0, :, 0].numpy())) for one in (wide, narrow)]
    assert spans[0] < spans[1]  # a larger share shows more of the image


def test_bounds_in_the_wrong_order_are_refused() -> None:
    for config in (ResizedCropAugmentConfig, RandomResizedCropAugmentConfig):
        with pytest.raises(ConfigError, match="least before most"):
            build(config, {"crop_area": [1.0, 0.5]})
