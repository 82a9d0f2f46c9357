"""RandAugment against torchvision's operations, closed forms, and its own frequencies."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as theirs

from vssl.config import ConfigError, build
from vssl.data.views.looks import Look, apply_looks
from vssl.data.views.rand_augment import _INCREASING, _TORCHVISION, Operation, draw_operations, operate
from vssl.data.views.rand_augment_config import RandAugmentConfig
from vssl.randomness import stream


def frames(count: int = 2, side: int = 24) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side + 8), dtype=torch.uint8, generator=stream("frames"))


def done(name: str, value: float = 0.0, *, nearest: bool = False) -> torch.Tensor:
    return operate(frames(), (Operation(name, value, nearest),))


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (Operation("autocontrast"), lambda x: theirs.autocontrast(x)),
        (Operation("equalize"), lambda x: theirs.equalize(x)),
        (Operation("invert"), lambda x: 255 - x),
        (Operation("posterize", 3), lambda x: theirs.posterize(x, 3)),
        (Operation("posterize", 0), torch.zeros_like),
        (Operation("solarize", 100), lambda x: theirs.solarize(x, 100)),
        (Operation("solarize", 127.5), lambda x: theirs.solarize(x, 127.5)),
        (Operation("solarize_add", 60), lambda x: torch.where(x < 128, (x.int() + 60).clamp(max=255), x.int())),
        (Operation("colour", 1.5), lambda x: theirs.adjust_saturation(x, 1.5)),
        (Operation("contrast", 0.6), lambda x: theirs.adjust_contrast(x, 0.6)),
        (Operation("brightness", 1.7), lambda x: theirs.adjust_brightness(x, 1.7)),
        (Operation("sharpness", 1.6), lambda x: theirs.adjust_sharpness(x, 1.6)),
        (Operation("identity"), lambda x: x),
    ],
    ids=lambda one: one.name if isinstance(one, Operation) else "",
)
def test_colours_are_torchvisions_to_a_level(
    operation: Operation, expected: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    difference = operate(frames(), (operation,)).int() - expected(frames()).int()
    assert difference.abs().max() <= 1


def test_translations_move_by_a_share_of_the_side_and_fill() -> None:
    original = frames()
    moved = done("translate_x", 0.25)  # 8 of 32 columns; PIL's matrix says where a pixel comes from
    assert torch.equal(moved[..., :24], original[..., 8:])
    assert moved[0, :, 0, -1].tolist() == [124, 116, 104]
    moved = done("translate_y", -0.25, nearest=True)
    assert torch.equal(moved[:, :, 6:], original[:, :, :18])
    assert moved[0, :, 0, 0].tolist() == [0, 0, 0]


def test_turns_and_shears_keep_a_corner_or_the_middle() -> None:
    original = frames()
    quarter = operate(original[..., :24], (Operation("rotate", 90.0),))
    assert torch.equal(quarter, original[..., :24].rot90(1, (2, 3)))
    assert torch.equal(done("shear_x", 0.3, nearest=True)[:, :, 0], original[:, :, 0])
    assert torch.equal(done("shear_y", -0.3, nearest=True)[..., 0], original[..., 0])


def test_strongest_and_weakest_values() -> None:
    at = {name: (value(0.0, 1), value(1.0, -1)) for name, value in _INCREASING.items()}
    assert len(at) == 15
    assert at["rotate"] == (0, -30)
    assert at["posterize"] == (4, 0)
    assert at["solarize"] == (256, 0)
    assert at["solarize_add"] == (0, 110)
    assert at["colour"] == (1, pytest.approx(0.1))
    assert at["translate_x"] == (0, -0.45)


def test_torchvisions_space_is_torchvisions() -> None:
    height, width, bins = 40, 50, 31
    # factor from ours to theirs, and our value of nothing
    units = {"translate_x": (width, 0), "translate_y": (height, 0), "solarize": (1 / 255, 0)}
    units |= dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), (1, 1))
    space = v2.RandAugment._AUGMENTATION_SPACE
    names = [name.replace("_", "").replace("colour", "color") for name in _TORCHVISION]
    assert names == [name.lower() for name in space]
    for (name, value), (magnitudes, is_signed) in zip(_TORCHVISION.items(), space.values(), strict=True):
        factor, nothing = units.get(name, (1, 0))
        expected = magnitudes(bins, height, width)
        for number in range(bins):
            strength, most = number / (bins - 1), 0.0 if expected is None else float(expected[number])
            found = [factor * (value(strength, sign) - nothing) for sign in (1, -1)]
            assert found == pytest.approx([most, -most if is_signed else most], abs=1e-5), name


@pytest.mark.parametrize("space", ["increasing", "torchvision"])
def test_operations_come_equally_often_and_half_of_them_are_done(space: str) -> None:
    config = build(RandAugmentConfig, {"space": space})
    drawn = [draw_operations(config, stream("draw", number)) for number in range(3000)]
    names = Counter(operation.name for operations in drawn for operation in operations)
    expected = 3000 * 2 / 2 / (15 if space == "increasing" else 14)
    assert len(names) == (15 if space == "increasing" else 14)
    assert all(0.7 * expected < count < 1.3 * expected for count in names.values())
    assert Counter(map(len, drawn))[1] == pytest.approx(1500, rel=0.1)


def test_a_drawn_operation_moves_no_other_draw() -> None:
    always = RandAugmentConfig(probability=1.0)
    some = RandAugmentConfig(probability=0.5)
    for number in range(20):
        every, part = (draw_operations(config, stream("some", number)) for config in (always, some))
        assert {*part} <= {*every}


def test_frames_of_a_clip_get_the_same_and_looks_apply_it_last() -> None:
    clip = frames(1).expand(4, -1, -1, -1)
    operations = (Operation("rotate", 20.0), Operation("equalize"))
    changed = operate(clip, operations)
    assert (changed == changed[:1]).all()
    look = Look(flip=True, operations=operations)
    assert torch.equal(look.apply(clip, 0), operate(clip.flip(-1), operations))
    views = frames(6)[None].transpose(1, 2).repeat(2, 1, 1, 1, 1)  # (2, 3, 6, H, W)
    together = apply_looks(views.clone(), [look, Look()], 0)
    assert torch.equal(together[0].transpose(0, 1), look.apply(views[0].transpose(0, 1), 0))
    assert torch.equal(together[1], views[1])


def test_a_magnitude_beyond_the_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="give at most 10"):
        build(RandAugmentConfig, {"magnitude": 11.0})
