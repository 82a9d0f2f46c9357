"""Mixup and cutmix against the numbers of the original systems and closed forms."""

import json
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.goldens import golden
from vssl.config import ConfigError, build
from vssl.nn.mixup import Mix, boxed, draw_mix, mixed, mixed_hits, soft_targets
from vssl.nn.mixup_config import MixupConfig


class Legacy:
    """numpy's legacy generator, of which the originals draw, under the names of the new one."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed)
        self.random, self.beta, self.integers = self._state.rand, self._state.beta, self._state.randint


def draw(config: MixupConfig, frame: tuple[int, int], seed: int) -> Mix:
    return draw_mix(config, *frame, cast(np.random.Generator, Legacy(seed)))


def mix_batch(clips: Tensor, labels: Tensor, mix: Mix, classes: int, smoothing: float) -> tuple[Tensor, Tensor]:
    targets = soft_targets(labels, labels.flip(0), mix, num_classes=classes, smoothing=smoothing)
    return mixed(clips, clips.flip(0), mix), targets


def cases(arrays: dict[str, np.ndarray], key: str) -> list[str]:
    found = [name.removesuffix(key) for name in arrays if name.endswith(key)]
    assert found
    return found


def test_mixed_clips_targets_and_draws_equal_the_originals() -> None:
    arrays = golden("mixup", "fgkvmem")
    meta = json.loads(str(arrays["meta"]))
    config = MixupConfig(
        mixup_alpha=meta["mixup_alpha"],
        cutmix_alpha=meta["cutmix_alpha"],
        probability=meta["prob"],
        cutmix_probability=meta["switch_prob"],
    )
    for case in cases(arrays, ".x_out"):
        clips, labels = torch.from_numpy(arrays[f"{case}.x"]), torch.from_numpy(arrays[f"{case}.y"])
        height, width = clips.shape[-2:]
        box = tuple(arrays[f"{case}.box_yl_yh_xl_xh"].tolist()) if arrays[f"{case}.use_cutmix"] else None
        mix = Mix(float(arrays[f"{case}.lam_used"]), box)
        found = draw(config, (height, width), int(arrays[f"{case}.seed"]))
        assert found == Mix(pytest.approx(mix.share, abs=1e-12), mix.box)
        out, targets = mix_batch(clips, labels, mix, meta["classes"], meta["smoothing"])
        np.testing.assert_allclose(out, arrays[f"{case}.x_out"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(targets, arrays[f"{case}.target"], rtol=0, atol=1e-6)
        if box is not None:
            rows, columns = box[1] - box[0], box[3] - box[2]
            assert mix.share == pytest.approx(1 - rows * columns / (height * width), abs=1e-12)


def test_a_step_of_fine_tuning_equals_the_originals() -> None:
    arrays = golden("finetune_mixup_step", "fgkvmem")
    meta = json.loads(str(arrays["meta"]))
    config = MixupConfig(mixup_alpha=meta["mixup"], cutmix_alpha=meta["cutmix"])
    for case in cases(arrays, ".x_mixed"):
        clips, labels = torch.from_numpy(arrays[f"{case}.x"]), torch.from_numpy(arrays[f"{case}.y"])
        logits = torch.from_numpy(arrays[f"{case}.logits"]).requires_grad_()
        mix = draw(config, tuple(clips.shape[-2:]), int(arrays[f"{case}.np_seed"]))
        out, targets = mix_batch(clips, labels, mix, meta["classes"], meta["smoothing"])
        np.testing.assert_allclose(out, arrays[f"{case}.x_mixed"], rtol=0, atol=1e-6)
        loss = F.cross_entropy(logits, targets.double())
        loss.backward()
        assert loss.item() == pytest.approx(float(arrays[f"{case}.loss"]), abs=1e-6)
        assert logits.grad is not None
        np.testing.assert_allclose(logits.grad, arrays[f"{case}.grad_logits"], rtol=0, atol=1e-6)
        hits = mixed_hits(logits, targets)
        for name, expected in (("accuracy", "top1_err"), ("top5", "top5_err")):
            assert 100 * (1 - hits[name].item()) == pytest.approx(float(arrays[f"{case}.{expected}"]), abs=1e-4)


def test_point_14_videotransformer_mixes_the_same_way() -> None:
    arrays = golden("14_mixup", "vtransformer")
    for number, meta in enumerate(json.loads(str(arrays["meta"]))):
        clips = torch.from_numpy(arrays[f"x{number}"]).transpose(1, 2)  # stored as (B, T, 3, H, W)
        mix = draw(MixupConfig(), tuple(clips.shape[-2:]), meta["seed"])
        assert (mix.box is not None) == meta["cutmix"]
        classes = arrays[f"target{number}"].shape[1]
        out, targets = mix_batch(clips, torch.from_numpy(arrays[f"label{number}"]), mix, classes, meta["smoothing"])
        np.testing.assert_allclose(out.transpose(1, 2), arrays[f"out{number}"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(targets, arrays[f"target{number}"], rtol=0, atol=1e-6)


def test_sts_cuts_the_same_boxes() -> None:
    """Of frames of 224 pixels a side."""
    for share, row, column, top, bottom, left, right, corrected in golden("bce_mixup", "sts")["cutmix"].tolist():
        mix = boxed(share, int(row), int(column), 224, 224)
        assert mix.box == (top, bottom, left, right)
        assert mix.share == pytest.approx(corrected, abs=1e-9)


def test_point_14_the_box_is_one_for_all_frames_and_its_area_is_what_the_partner_gives() -> None:
    for seed in range(30):
        mix = draw(MixupConfig(mixup_alpha=0.0), (9, 14), seed)
        out, targets = mix_batch(
            torch.tensor([0.0, 1.0]).view(2, 1, 1, 1, 1).expand(2, 3, 4, 9, 14), torch.tensor([0, 1]), mix, 2, 0.0
        )
        assert torch.equal(out, out[:, :1, :1].expand_as(out))
        assert out[0].mean().item() == pytest.approx(1 - mix.share, abs=1e-6)
        assert targets[0].tolist() == pytest.approx([mix.share, 1 - mix.share], abs=1e-6)


def test_point_14_targets_sum_to_one_and_smoothing_is_torch_s_own() -> None:
    labels, logits = torch.tensor([0, 3, 2, 2]), torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    targets = soft_targets(labels, labels.flip(0), Mix(0.3), num_classes=5, smoothing=0.1)
    assert targets.sum(dim=1).tolist() == pytest.approx([1.0] * 4)
    alone = soft_targets(labels, labels.flip(0), Mix(1.0), num_classes=5, smoothing=0.1)
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(F.cross_entropy(logits, alone), expected)


def test_the_second_label_counts_for_the_first() -> None:
    """Neither has the largest score, and together they do; what they beat is second no more."""
    logits = torch.tensor([[2.0, 3.0, 1.5]])
    targets = torch.tensor([[0.6, 0.0, 0.4]])
    assert mixed_hits(logits, targets)["accuracy"] == 1
    assert mixed_hits(logits, torch.tensor([[0.6, 0.4, 0.0]]))["accuracy"] == 1
    assert mixed_hits(torch.tensor([[2.0, 9.0, 1.5]]), targets)["accuracy"] == 0


@pytest.mark.parametrize(
    ("changes", "boxes"),
    [
        ({"cutmix_alpha": 0.0}, 0),
        ({"mixup_alpha": 0.0}, 40),
        ({"probability": 0.0}, 0),
        ({"cutmix_probability": 1.0}, 40),
    ],
)
def test_one_kind_alone_or_none(changes: dict[str, Any], boxes: int) -> None:
    mixes = [draw(MixupConfig(**changes), (8, 8), seed) for seed in range(40)]
    assert sum(mix.box is not None for mix in mixes) == boxes
    assert ("probability" in changes) == all(mix == Mix(1.0) for mix in mixes)


def test_a_config_that_mixes_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="mixup_alpha and cutmix_alpha are both 0"):
        build(MixupConfig, {"mixup_alpha": 0.0, "cutmix_alpha": 0.0})
