"""Pixels against the original's crops, and what a clip's frames and modalities share."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as colour

from tests.goldens import golden
from vssl.data.crops import CropDraw
from vssl.data.sampling.samplers import Dense, VideoClips
from vssl.data.views import augment
from vssl.data.views.augment import JitterDraw
from vssl.data.views.augment_config import ClassifyAugmentConfig, TestViewConfig, TwoViewAugmentConfig
from vssl.data.views.drawn import ClassifyView, TestView, TwoView, draw_crop, draw_decisions, draw_jitter, finished
from vssl.randomness import stream


@pytest.fixture(scope="module", name="golden")
def crops() -> dict[str, np.ndarray]:
    return golden("crops")


def planes(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]


def image(planes: torch.Tensor) -> np.ndarray:
    return planes[0].permute(1, 2, 0).numpy().astype(int)


def dense(total: int, num_frames: int, stride: int) -> VideoClips:
    return VideoClips(total, 25.0, Dense(num_frames, stride))


def test_crops_equal_the_originals(golden: dict[str, np.ndarray]) -> None:
    source, side, scaled = planes(golden["image"]), int(golden["crop_size"]), int(golden["scale_to"])
    for i, crop in enumerate(augment.five_crops(source, side), start=1):
        assert np.array_equal(image(crop), golden[f"five{i}"])
        assert np.abs(image(augment.resize(crop, scaled, scaled)) - golden[f"five{i}_scaled"]).max() <= 2
    assert np.array_equal(image(augment.centre_crop(source, side)), golden["center"])
    assert np.array_equal(image(augment.flip(source)), golden["flip"])
    narrow = augment.centre_crop(planes(golden["center_small_in"]), side)
    assert np.array_equal(image(narrow), golden["center_small"])
    short = image(augment.resize_short_side(source, scaled))
    assert short.shape == golden["scale_short"].shape
    assert np.abs(short - golden["scale_short"]).max() <= 2


def test_narrow_frames_have_no_corner_crops(golden: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="resize the short side"):
        augment.five_crops(planes(golden["center_small_in"]), int(golden["crop_size"]))


def test_point_12_view_statistics() -> None:
    draws = 10_000
    config = TwoViewAugmentConfig()
    one_clip = exactly_one = both = first_strong = first_clip = 0
    for i in range(draws):
        a, b = draw_decisions(config, stream("statistics", i))
        if a.clip == b.clip:
            one_clip += 1
            assert a.strong != b.strong
            first_strong += a.strong
            first_clip += a.clip == 0
        else:
            assert (a.clip, b.clip) == (0, 1)
            both += a.strong and b.strong
            exactly_one += a.strong != b.strong
    two_clip = draws - one_clip
    assert one_clip / draws == pytest.approx(0.5, abs=0.02)
    assert both / two_clip == pytest.approx(0.09, abs=0.02)
    assert exactly_one / two_clip == pytest.approx(0.42, abs=0.03)
    assert first_strong / one_clip == pytest.approx(0.5, abs=0.03)
    assert first_clip / one_clip == pytest.approx(0.5, abs=0.03)


def test_strong_views_meet_their_probabilities() -> None:
    maker = TwoView(TwoViewAugmentConfig(two_clip_probability=1.0, strong_probability=1.0), 16)
    views = [v for i in range(2000) for v in maker.draw(lambda purpose, i=i: stream(i, purpose), dense(60, 16, 1))]
    share = {
        name: np.mean([getattr(view, name) is not None for view in views])
        for name in ("jitter", "grey_channels", "blur_sigma")
    }
    assert share["jitter"] == pytest.approx(0.8, abs=0.03)
    assert share["grey_channels"] == pytest.approx(0.2, abs=0.03)
    assert share["blur_sigma"] == pytest.approx(0.5, abs=0.03)
    assert np.mean([view.flip for view in views]) == pytest.approx(0.5, abs=0.03)
    sigmas = [view.blur_sigma for view in views if view.blur_sigma is not None]
    assert min(sigmas) >= 0.1
    assert max(sigmas) <= 2.0


def test_plain_views_are_cropped_and_flipped_alone() -> None:
    maker = TwoView(TwoViewAugmentConfig(two_clip_probability=1.0, strong_probability=0.0), 16)
    for i in range(50):
        for view in maker.draw(lambda purpose, i=i: stream(i, purpose), dense(60, 16, 1)):
            assert view.jitter is None
            assert view.grey_channels is None
            assert view.blur_sigma is None


def test_one_probability_moves_no_other_draw() -> None:
    def crops(config: TwoViewAugmentConfig) -> list[object]:
        return [view.crops for view in TwoView(config, 16).draw(lambda purpose: stream(1, purpose), dense(60, 16, 1))]

    assert crops(TwoViewAugmentConfig()) == crops(TwoViewAugmentConfig(flip_probability=0, jitter_probability=0))


def test_crop_draws_lie_in_their_ranges_and_fit() -> None:
    fits = 0
    for i in range(2000):
        draw = draw_crop(0.2, stream("crop", i))
        assert 0.2 <= draw.area <= 1
        assert 3 / 4 <= draw.aspect <= 4 / 3
        box = draw.box(48, 64)
        if box is not None:
            fits += 1
            top, left, height, width = box
            assert 0 <= top <= 48 - height
            assert 0 <= left <= 64 - width
            assert height * width == pytest.approx(draw.area * 48 * 64, rel=0.1)
    assert 1000 < fits < 2000


def test_a_crop_is_at_least_a_pixel() -> None:
    draw = CropDraw(area=1e-7, aspect=1.0, swap=False, left=0.99, top=0.99)
    assert draw.box(24, 40) == (23, 39, 1, 1)


def test_a_hue_beyond_half_the_circle_is_refused_before_training() -> None:
    for config_class in (TwoViewAugmentConfig, ClassifyAugmentConfig):
        assert config_class(jitter=(2.0, 2.0, 2.0, 0.5)).jitter[3] == 0.5
        with pytest.raises(ValueError, match=r"hue, the last number.*at most 0.5"):
            config_class(jitter=(0.4, 0.4, 0.4, 0.6))


def test_a_crop_that_does_not_fit_squeezes_the_frame_or_takes_its_centre() -> None:
    frames = torch.randint(0, 256, (2, 24, 40, 3), dtype=torch.uint8)
    too_tall = CropDraw(area=1.0, aspect=0.75, swap=False, left=0.0, top=0.0)
    assert too_tall.box(24, 40) is None
    view = TwoView(TwoViewAugmentConfig(), 16).draw(lambda purpose: stream(0, purpose), dense(2, 2, 1))[0]
    kwargs = {"indices": view.indices, "side": 16, "crops": (too_tall,)}
    whole = finished(type(view)(**kwargs, squeeze=True), frames, 0)
    assert torch.equal(whole, augment.to_view(augment.resize(augment.to_planes(frames), 16, 16)))
    centre = finished(type(view)(**kwargs, squeeze=False), frames, 0)
    assert centre.shape == (3, 2, 16, 16)
    assert not torch.equal(centre, whole)


def test_all_frames_of_a_clip_are_treated_alike() -> None:
    still = torch.randint(0, 256, (1, 40, 56, 3), dtype=torch.uint8).repeat(8, 1, 1, 1)
    config = TwoViewAugmentConfig(grey_probability=0.0, two_clip_probability=0.0, jitter_probability=1.0)
    for i in range(20):
        for view in TwoView(config, 24).draw(lambda purpose, i=i: stream(i, purpose), dense(20, 8, 1)):
            applied = finished(view, still, 0)
            assert torch.equal(applied, applied[:, :1].expand_as(applied))


def test_point_11_rgb_and_flow_share_crop_flip_and_jitter() -> None:
    frames = torch.randint(0, 256, (8, 40, 56, 3), dtype=torch.uint8)
    shared = TwoViewAugmentConfig(grey_probability=0.0)
    greyed = TwoViewAugmentConfig(grey_probability=1.0, two_clip_probability=1.0, strong_probability=1.0)
    differs = 0
    for i in range(20):
        for view in TwoView(shared, 24).draw(lambda purpose, i=i: stream(i, purpose), dense(20, 8, 1)):
            assert torch.equal(finished(view, frames, 0), finished(view, frames, 1))
        for view in TwoView(greyed, 24).draw(lambda purpose, i=i: stream(i, purpose), dense(20, 8, 1)):
            differs += not torch.equal(finished(view, frames, 0), finished(view, frames, 1))  # grey is drawn per frame
    assert differs > 30


def test_grey_copies_one_channel_drawn_per_frame() -> None:
    frames = torch.randint(0, 256, (6, 3, 5, 5), dtype=torch.uint8)
    channels = torch.tensor([0, 1, 2, 2, 1, 0])
    grey = augment.grey(frames, channels)
    for t, channel in enumerate(channels.tolist()):
        assert (grey[t] == frames[t, channel]).all()


def test_jitter_follows_the_drawn_order() -> None:
    frames = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    one_way = augment.jitter(frames, JitterDraw(1.4, 0.6, 1.3, 0.1, (0, 1, 2, 3)))
    other_way = augment.jitter(frames, JitterDraw(1.4, 0.6, 1.3, 0.1, (3, 2, 1, 0)))
    assert not torch.equal(one_way, other_way)
    neutral = augment.jitter(frames, JitterDraw(1.0, 1.0, 1.0, 0.0, (0, 1, 2, 3)))
    assert (neutral.int() - frames.int()).abs().max() <= 2
    for i in range(200):
        draw = draw_jitter((0.4, 0.4, 0.4, 0.1), stream("jitter", i))
        assert all(0.6 <= factor <= 1.4 for factor in (draw.brightness, draw.contrast, draw.saturation))
        assert -0.1 <= draw.hue <= 0.1
        assert sorted(draw.order) == [0, 1, 2, 3]


def test_blur_keeps_flat_images_and_spreads_a_point_as_a_gaussian() -> None:
    flat = torch.full((1, 3, 9, 9), 77, dtype=torch.uint8)
    assert torch.equal(augment.blur(flat, 1.5), flat)
    point = torch.zeros((1, 3, 21, 21), dtype=torch.uint8)
    point[..., 10, 10] = 255
    blurred = augment.blur(point, 1.0)[0, 0].float()
    assert blurred[10, 10].item() == pytest.approx(255 / (2 * np.pi), abs=1.5)
    assert (blurred[10, 11] / blurred[10, 10]).item() == pytest.approx(np.exp(-0.5), abs=0.03)


def convolved(planes: torch.Tensor, sigma: float) -> torch.Tensor:
    """The slow twin of `blur`."""
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    images = F.pad(planes.flatten(0, 1)[:, None].float(), (reach, reach, reach, reach), mode="replicate")
    images = F.conv2d(F.conv2d(images, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return images.round().clamp(0, 255).to(torch.uint8).view(planes.shape)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_equals_its_slow_twin(sigma: float) -> None:
    noise = torch.randint(0, 256, (2, 3, 19, 40), dtype=torch.uint8, generator=stream("noise"))
    difference = (augment.blur(noise, sigma).int() - convolved(noise, sigma).int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).double().mean() < 1e-3


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.03, 0.3, 0.5])
def test_hues_turn_as_torchvisions(shift: float) -> None:
    noise = torch.randint(0, 256, (2, 3, 19, 40), dtype=torch.uint8, generator=stream("noise"))
    noise[0, :, :5] = noise[0, :1, :5]  # greys
    noise[1, 1:, :5] = 0  # pure reds and black
    difference = (augment.turn_hue(noise, shift).int() - colour.adjust_hue(noise, shift).int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).double().mean() < 0.01


def test_normalise_is_imagenets() -> None:
    views = torch.zeros((2, 3, 1, 1, 1), dtype=torch.uint8)
    views[1] = 255
    expected = [(0 - 0.485) / 0.229, (1 - 0.406) / 0.225]
    found = augment.normalise(views)
    assert found[0, 0].item() == pytest.approx(expected[0])
    assert found[1, 2].item() == pytest.approx(expected[1])


def test_classifier_view_takes_one_clip() -> None:
    maker = ClassifyView(ClassifyAugmentConfig(resize_crop=32), 16)
    frames = torch.randint(0, 256, (8, 40, 56, 3), dtype=torch.uint8)
    (view,) = maker.draw(lambda purpose: stream(3, purpose), dense(30, 8, 2))
    assert finished(view, frames, 0).shape == (3, 8, 16, 16)
    assert np.diff(view.indices).tolist() == [2] * 7


@pytest.mark.parametrize(("height", "width", "crop"), [(40, 56, 32), (20, 64, 32), (24, 24, 0)])
def test_test_views_are_plain_whatever_the_frame(height: int, width: int, crop: int) -> None:
    frames = torch.full((8, height, width, 3), 200, dtype=torch.uint8)
    views = TestView(TestViewConfig(centre_crop=crop), 16).draw(lambda purpose: stream(0, purpose), dense(30, 8, 1))
    assert len(views) == 8  # starts 0, 3, .. 21
    assert (finished(views[0], frames, 0) == 200).all()  # no black border


def test_test_views_jitter_only_for_compatibility() -> None:
    def jittered(compat: bool) -> int:
        maker = TestView(TestViewConfig(compat_jitter=compat), 16)
        drawn = (maker.draw(lambda purpose, i=i: stream(i, purpose), dense(30, 8, 1)) for i in range(300))
        return sum(views[0].jitter is not None for views in drawn)

    assert jittered(False) == 0
    assert 60 < jittered(True) < 120
