"""Views as batches and as scores of videos, against the numbers of the original systems and slow twins."""

import numpy as np
import pytest
import torch

from tests.goldens import golden, golden_tensors
from vssl.evals.metrics import top_k
from vssl.nn.folding import average_views, fold, fold_frames, sum_by_video


def test_batches_for_the_backbone_equal_the_originals() -> None:
    numbers = golden_tensors("views", "sts")
    cases = [key.removesuffix("_imgs") for key in numbers if key.endswith("_backbone_in") or key.endswith("_imgs")]
    cases = [case for case in dict.fromkeys(cases) if f"{case}_backbone_in" in numbers]
    assert {case.split("_")[0] for case in cases} == {"dense", "sparse"}
    for case in cases:
        views, expected = numbers[f"{case}_imgs"], numbers[f"{case}_backbone_in"]
        found = fold(views) if case.startswith("dense") else fold_frames(views, len(expected) // len(views))
        assert torch.equal(found, expected), case


def test_averages_of_views_equal_the_originals() -> None:
    numbers = golden_tensors("views", "sts")
    views = int(numbers["avg_num_segs"])
    for by, name in (("probabilities", "avg_prob"), ("logits", "avg_score")):
        found = average_views(numbers["avg_scores"].double(), views, by)
        assert (found - numbers[name]).abs().max() < 1e-6
    numbers = golden_tensors("16_views", "vtransformer")
    views = len(numbers["logits"]) // len(numbers["logits_avg"])
    found = average_views(numbers["logits"].double(), views, "logits")
    assert (found - numbers["logits_avg"]).abs().max() < 1e-6
    assert (found.softmax(dim=1) - numbers["probs"]).abs().max() < 1e-6


def test_sums_over_views_in_any_order_equal_the_originals() -> None:
    numbers = golden("multiview_ensemble", "fgkvmem")
    videos = torch.from_numpy(numbers["view_ids"] // int(numbers["num_views"]))
    found = sum_by_video(torch.from_numpy(numbers["view_scores"]), videos, len(numbers["video_labels"]))
    assert np.abs(found.numpy() - numbers["video_scores"]).max() < 1e-6
    labels = torch.from_numpy(numbers["video_labels"])
    for k in (1, 5):
        assert round(100 * top_k(found, labels, k), 2) == float(numbers[f"top{k}"])


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_ten_crops_equal_the_originals(modality: str) -> None:
    """Softmax of each window, mean over a video's windows, mean over its crops."""
    numbers = golden("tencrop")
    logits = torch.from_numpy(numbers[f"logits_{modality}"]).double()  # (videos, crops, clips, K), padded with NaN
    labels = torch.from_numpy(numbers["label"])
    for name, crops in (("center", 1), ("five", 5), ("ten", 10)):
        scores = torch.stack(
            [
                average_views(logits[video, :crops, :clips].flatten(0, 1), crops * clips)[0]
                for video, clips in enumerate(numbers["n_clips"].tolist())
            ]
        )
        assert np.abs(scores.numpy() - numbers[f"{modality}_{name}_prob"]).max() < 1e-5
        found = [top_k(scores, labels, k) for k in (1, 5)]
        assert found == pytest.approx(numbers[f"{modality}_{name}_acc"].tolist(), abs=1e-9)


def test_two_streams_of_ten_crops_equal_the_originals() -> None:
    numbers = golden("tencrop")
    mean = (numbers["rgb_ten_prob"] + numbers["flow_ten_prob"]) / 2
    assert np.abs(mean - numbers["two_prob"]).max() < 1e-5
    assert top_k(torch.from_numpy(mean), torch.from_numpy(numbers["label"]), 1) == pytest.approx(
        float(numbers["two_acc1"])
    )


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("crops", [1, 3])
def test_frames_fold_like_their_slow_twin(batch: int, crops: int) -> None:
    views = torch.arange(batch * crops * 4 * 3 * 2 * 5).reshape(batch, crops * 4, 3, 1, 2, 5)
    found = fold_frames(views, crops)
    assert found.shape == (batch * crops, 3, 4, 2, 5)  # a batch of one keeps its axis
    for video in range(batch):
        for crop in range(crops):
            for frame in range(4):
                assert torch.equal(found[video * crops + crop, :, frame], views[video, crop * 4 + frame, :, 0])


def test_shapes_that_cannot_be_folded_are_refused() -> None:
    for views, crops in ((torch.zeros(1, 4, 3, 2, 2, 2), 1), (torch.zeros(1, 4, 3, 1, 2, 2), 3)):
        with pytest.raises(ValueError, match="expected"):
            fold_frames(views, crops)


def test_averaged_probabilities_sum_to_one() -> None:
    found = average_views(torch.randn(12, 5, generator=torch.Generator().manual_seed(0)), 3)
    assert (found.sum(dim=1) - 1).abs().max() < 1e-6
