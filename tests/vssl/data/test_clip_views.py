"""Views of FGKVMem: what is drawn, and what a whole clip shares, against slow twins."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as colour

from tests.tiny_stages import finetuning
from vssl.config import ConfigError, build
from vssl.data.crops import scaled_size, widest_box
from vssl.data.sampling.samplers import VideoClips, build_sampler
from vssl.data.sampling.sampling_config import TimedConfig
from vssl.data.views import augment
from vssl.data.views.augment import JitterDraw
from vssl.data.views.augment_config import (
    ClassifyAugmentConfig,
    ClipPairAugmentConfig,
    ShortSideAugmentConfig,
    TestViewConfig,
)
from vssl.data.views.clip_views import RandomSquareView, SizedCropView, draw_sized_crop, gap
from vssl.data.views.drawn import DrawnView, finished
from vssl.data.views.looks import Look, apply_looks
from vssl.data.views.view_makers import view_for_pretraining, view_for_testing, view_for_training
from vssl.randomness import stream

TIMED = build_sampler(TimedConfig(), 4, 2)


def drawn(maker, video: str, frames: int = 60) -> list[DrawnView]:
    return list(maker.draw(lambda purpose: stream("views", video, purpose), VideoClips(frames, 25.0, TIMED)))


def picture(height: int, width: int, frames: int = 4) -> Tensor:
    return torch.randint(256, (frames, height, width, 3), dtype=torch.uint8, generator=stream("picture", height, width))


def pairs(count: int, **changes) -> list[list[SizedCropView]]:
    maker = view_for_pretraining(ClipPairAugmentConfig(**changes), 16)
    return [[view for view in drawn(maker, f"v{n}") if isinstance(view, SizedCropView)] for n in range(count)]


def test_two_clips_have_draws_of_their_own_at_the_published_rates() -> None:
    views = [view for pair in pairs(400) for view in pair]
    assert len(views) == 800
    looks = Counter()
    for view in views:
        looks["jitter"] += view.look.jitter is not None
        looks["grey"] += view.look.luma == "after"
        looks["blur"] += view.blur_sigma is not None
        looks["flip"] += view.look.flip
    for name, share in (("jitter", 0.8), ("grey", 0.2), ("blur", 0.5), ("flip", 0.5)):
        assert looks[name] / len(views) == pytest.approx(share, abs=0.06), name
    assert all(view.look.jitter.whole_clip for view in views if view.look.jitter)
    assert all(0.1 <= view.blur_sigma <= 2.0 for view in views if view.blur_sigma is not None)
    for first, second in pairs(20):
        assert first.crops != second.crops
        assert first.indices.tolist() != second.indices.tolist()


def test_point_14_frames_of_a_clip_share_every_draw_and_two_clips_share_none() -> None:
    """A still picture stays still: its frames are cropped, blurred, coloured and mirrored alike."""
    frames = picture(24, 30, frames=1).repeat(4, 1, 1, 1)
    for finish in (lambda view: finished(view, frames, 0), lambda view: on_device(view, frames)):
        for pair in pairs(12):
            first, second = (finish(view).int() for view in pair)
            for found in (first, second):
                # a value half way between two levels may fall to either side, and colours are turned up after it
                assert (found - found[:, :1]).abs().max() <= 4
            assert (first - second).abs().max() > 20


def on_device(view: DrawnView, frames: Tensor) -> Tensor:
    """`finished`, with colours and flip as a batch gets them on a device."""
    return apply_looks(augment.to_view(view.crop(frames))[None], [view.look], 0)[0]


def test_the_gap_of_two_clips_is_kept_where_it_can_be() -> None:
    """Clips of 4 frames at a stride of 2 last 6 frames of 60, at 25 frames a second."""
    whole = pairs(40, blur_probability=0.0)
    spaced = pairs(40, blur_probability=0.0, gap=(5, 20))
    apart = [gap(*(view.indices for view in pair)) for pair in spaced]
    assert all(5 <= one <= 20 for one in apart)
    assert not all(5 <= gap(*(view.indices for view in pair)) <= 20 for pair in whole)
    assert {bool(first.indices[0] < second.indices[0]) for first, second in spaced} == {True, False}
    for one, other in zip(whole, spaced):
        assert [(view.crops, view.look) for view in one] == [(view.crops, view.look) for view in other]
    assert all(len(pair) == 2 for pair in pairs(3, gap=(500, 600))), "none is so far apart: the last draw is taken"


def test_one_probability_moves_no_other_draw() -> None:
    for one, other in zip(pairs(10), pairs(10, blur_probability=0.0, jitter_probability=1.0)):
        for a, b in zip(one, other):
            assert (a.crops, a.look.flip, a.look.luma) == (b.crops, b.look.flip, b.look.luma)


def test_crops_have_the_published_area_and_aspect() -> None:
    generator = stream("crops")
    draws = [draw_sized_crop((0.2, 0.766), (0.75, 1.3333), generator) for _ in range(2000)]
    assert all(0.2 <= draw.area <= 0.766 and 0.75 <= draw.aspect <= 1.3333 for draw in draws)
    # Log-uniform: as many are wider than 1 as are narrower; of a uniform one, 57 of 100 are.
    assert sum(draw.aspect > 1 for draw in draws) / len(draws) == pytest.approx(0.5, abs=0.04)
    assert sum(draw.area for draw in draws) / len(draws) == pytest.approx((0.2 + 0.766) / 2, abs=0.02)


@given(st.integers(17, 60), st.integers(17, 60), st.integers(0, 50))
def test_a_crop_is_taken_blurred_and_resized_like_its_slow_twin(height: int, width: int, seed: int) -> None:
    (view, _) = drawn(view_for_pretraining(ClipPairAugmentConfig(), 16), f"v{seed}")
    assert isinstance(view, SizedCropView)
    frames = picture(height, width)
    box = next(
        (b for b in (draw.box(height, width) for draw in view.crops) if b), widest_box(height, width, 0.75, 1.3333)
    )
    planes = augment.crop(frames.permute(0, 3, 1, 2), box)
    if view.blur_sigma is not None:
        alone = torch.stack([augment.blur(frame[None], view.blur_sigma)[0] for frame in planes])
        planes = augment.blur(planes, view.blur_sigma)
        # Sums are taken in another order beside other frames, and a value may lie half way between two levels.
        assert (planes.int() - alone.int()).abs().max() <= 1
    expected = augment.resize(planes, 16, 16, "bilinear", antialias=False)
    assert torch.equal(view.crop(frames), expected)


def test_where_no_crop_fits_the_largest_in_the_middle_is_taken() -> None:
    view = pairs(1, blur_probability=0.0, crop_area=(0.99, 1.0), crop_aspect=(1.0, 1.0))[0][0]
    frames = picture(20, 60)
    expected = augment.resize(frames.permute(0, 3, 1, 2)[..., 20:40], 16, 16, "bilinear", antialias=False)
    assert torch.equal(view.crop(frames), expected)


def test_a_clip_is_jittered_as_one_tall_image() -> None:
    """As the original does it by a picture of all frames on top of one another."""
    planes = picture(12, 14).permute(0, 3, 1, 2).contiguous()
    draw = JitterDraw(1.3, 0.7, 1.2, 0.05, (2, 1, 0, 3), whole_clip=True)
    tall = planes.transpose(0, 1).reshape(3, -1, 14)
    for operation in draw.order:
        tall = (
            colour.adjust_brightness(tall, draw.brightness),
            colour.adjust_contrast(tall, draw.contrast),
            colour.adjust_saturation(tall, draw.saturation),
            augment.turn_hue(tall, draw.hue),
        )[operation]
    assert torch.equal(augment.jitter(planes, draw), tall.view(3, 4, 12, 14).transpose(0, 1))
    assert not torch.equal(augment.jitter(planes, draw), augment.jitter(planes, replace(draw, whole_clip=False)))


@pytest.mark.parametrize("luma", ["before", "after"])
def test_a_batch_on_the_device_gets_the_same_looks(luma) -> None:
    looks = [
        Look(jitter=JitterDraw(1.3171, 0.7133, 1.4173, 0.0817, order, whole_clip=True) if jitter else None, luma=grey)
        for order, jitter, grey in (((0, 1, 2, 3), True, luma), ((1, 3, 2, 0), True, None), ((0, 1, 2, 3), False, luma))
    ]
    views = torch.stack([picture(20, 20 + n)[:, :, :20].permute(3, 0, 1, 2) for n in range(len(looks))])
    expected = [look.apply(view.transpose(0, 1), 0).transpose(0, 1) for look, view in zip(looks, views)]
    for one, found in zip(expected, apply_looks(views.clone(), looks, 0)):
        difference = (one.int() - found.int()).abs()
        assert difference.max() <= 2
        assert (difference > 0).double().mean() < 0.02


def test_grey_before_a_jitter_stays_grey() -> None:
    look = Look(jitter=JitterDraw(1.2, 0.8, 1.4, 0.1, (3, 2, 1, 0), whole_clip=True), luma="before")
    found = look.apply(picture(8, 9).permute(0, 3, 1, 2), 0)
    assert torch.equal(found, found[:, :1].expand_as(found))


def squares(count: int, **changes) -> list[RandomSquareView]:
    maker = view_for_training(ShortSideAugmentConfig(short_side=(20, 30), **changes), 16)
    return [view for n in range(count) for view in drawn(maker, f"v{n}") if isinstance(view, RandomSquareView)]


def test_training_squares_at_the_published_rates_and_sizes() -> None:
    views = squares(400)
    assert all(view.look.jitter is not None for view in views), "always jittered"
    assert sum(view.look.luma == "before" for view in views) / len(views) == pytest.approx(0.2, abs=0.06)
    assert sum(view.look.flip for view in views) / len(views) == pytest.approx(0.5, abs=0.08)
    sides = Counter(view.short_side for view in views)
    assert set(sides) == set(range(20, 31))


@given(st.integers(20, 60), st.integers(20, 60), st.floats(0, 1, exclude_max=True), st.integers(16, 30))
def test_a_square_is_cut_from_the_scaled_frame(height: int, width: int, at: float, short: int) -> None:
    view = replace(squares(1)[0], short_side=short, top=at, left=at, side=16)
    frames = picture(height, width)
    new_height, new_width = scaled_size(height, width, short)
    whole = augment.resize(frames.permute(0, 3, 1, 2), new_height, new_width, "bilinear", antialias=False)
    tops = range(max(new_height - 16, 1))  # the last that fits is never drawn
    top, left = int(at * (new_height - 16)), int(at * (new_width - 16))
    assert top in tops
    assert torch.equal(view.crop(frames), whole[..., top : top + 16, left : left + 16])


def test_ten_clips_in_three_crops_are_thirty_views_the_same_every_time() -> None:
    config = TestViewConfig(num_clips=10, num_crops=3, short_side=20, rounding="fgkvmem", crop_size=20)
    maker = view_for_testing(config, 16)
    frames = picture(24, 41, frames=100)
    views = [finished(view, frames[torch.from_numpy(view.indices)], 0) for view in drawn(maker, "v", frames=100)]
    assert len({view.numpy().tobytes() for view in views}) == 30
    assert {tuple(view.shape) for view in views} == {(3, 4, 20, 20)}
    again = drawn(maker, "another", frames=100)
    assert all(torch.equal(finished(b, frames[torch.from_numpy(b.indices)], 0), a) for a, b in zip(views, again))
    scaled = augment.resize(frames.permute(0, 3, 1, 2), 20, 34, "bilinear", antialias=False)  # 41 / 24 * 20 = 34.2
    for start, view in zip((0, 14, 7), views[::10]):
        assert torch.equal(
            view, augment.to_view(scaled[drawn(maker, "v", frames=100)[0].indices, :, :, start : start + 20])
        )


def test_legacy_views_are_random_squares_of_the_training_size() -> None:
    config = TestViewConfig(num_clips=10, num_crops=3, crop_size=20, legacy_views=(20, 30))
    views = drawn(view_for_testing(config, 16), "v")
    assert len(views) == 30
    assert all(isinstance(view, RandomSquareView) and view.side == 16 for view in views)
    assert 5 < sum(view.look.flip for view in views) < 25
    assert len({(view.top, view.left) for view in views}) == 30
    starts = [view.indices[0] for view in views]
    assert starts == sorted(starts), "three views of a clip lie side by side"


def test_a_mapping_without_a_name_means_the_views_of_the_time_before_there_were_others() -> None:
    assert finetuning(augment={"resize_crop": 18}).augment == ClassifyAugmentConfig(resize_crop=18)
    with pytest.raises(ConfigError, match="accepted: random-resized-crop, resized-crop, short-side, sized-crop"):
        finetuning(augment={"name": "short"})


def test_a_frame_scaled_to_less_than_the_crop_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"augment\.short_side begins at 12, less than data\.crop_size \(16\)"):
        finetuning(augment={"name": "short-side", "short_side": [12, 20]})
    with pytest.raises(ConfigError, match=r"test_view\.legacy_views begins at 12"):
        finetuning(test_view={"legacy_views": [12, 20]})


def test_reversed_bounds_are_refused() -> None:
    for key in ("crop_area", "blur_sigma", "gap"):
        config = ClipPairAugmentConfig
        with pytest.raises(ConfigError, match=f"{key} is .* least before most"):
            build(config, {key: [0.7, 0.3]})
    with pytest.raises(ConfigError, match=r"short_side is \[160, 128\]: least before most, as in \[128, 160\]"):
        build(ShortSideAugmentConfig, {"short_side": [160, 128]})
    assert build(ClassifyAugmentConfig, {}).name == "sized-crop"
