"""Scores of views become scores of videos as in the originals, by the function that all tests of classifiers call."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from tests.goldens import golden_tensors
from vssl.data.sampling.samplers import VideoClips, build_sampler
from vssl.data.sampling.sampling_config import SegmentsConfig
from vssl.data.views import augment
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.view_makers import view_for_testing
from vssl.evals.features import mean_over_windows
from vssl.evals.metrics import top_k
from vssl.evals.protocols import Described, crop_protocols, fused_probabilities


def softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


def averaged(logits: Tensor, num_views: int, per_window: Callable[[Tensor], Tensor] = softmax) -> Tensor:
    """Of (videos * views, K) logits, a video's views side by side."""
    videos = torch.arange(len(logits) // num_views).repeat_interleave(num_views)
    batches = zip(videos.split(5), logits.split(5))  # which end within a video
    return mean_over_windows(per_window, batches, len(logits) // num_views)


def test_a_network_sees_the_clips_that_the_originals_sees() -> None:
    numbers = golden_tensors("views", "sts")
    cases = [key.removesuffix("_backbone_in") for key in numbers if key.endswith("_backbone_in")]
    assert {case.split("_")[0] for case in cases} == {"dense", "sparse"}
    for case in cases:
        views, expected = numbers[f"{case}_imgs"], numbers[f"{case}_backbone_in"]
        network = Recorder(int(numbers.get(f"{case}_n_out", torch.ones(2))[1]))
        found = mean_over_windows(network, shown(views, len(expected) // len(views)), len(views))
        assert torch.equal(torch.cat(network.seen), expected), case
        if f"{case}_n_out" in numbers:
            assert list(found.shape) == numbers[f"{case}_n_out"].tolist()


class Recorder:
    """A network that keeps what it is shown."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.seen: list[Tensor] = []

    def __call__(self, clips: Tensor) -> Tensor:
        self.seen.append(clips)
        return torch.zeros(len(clips), self.classes)


def shown(views: Tensor, per_video: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, V, 3, T, H, W) views of the original as a stage shows them: its sampler says which frames make a clip."""
    count, frames = views.shape[1], views.shape[3]
    sparse, crops = frames == 1, per_video if frames == 1 else 1
    maker = view_for_testing(TestViewConfig(num_clips=count // crops, num_crops=crops, short_side=8), 8)
    sampler = build_sampler(SegmentsConfig(sparse=sparse), count // crops if sparse else frames, 1)
    drawn = maker.draw(lambda purpose: torch.Generator(), VideoClips(100, 25.0, sampler))
    for number, of_video in enumerate(views):
        planes = of_video.transpose(1, 2).flatten(0, 1)  # (V T, 3, H, W)
        clips = planes.split([len(view.indices) for view in drawn])
        yield torch.full((len(drawn),), number), torch.stack([augment.to_view(clip) for clip in clips])


def test_averages_of_views_equal_the_originals() -> None:
    numbers = golden_tensors("views", "sts")
    views = int(numbers["avg_num_segs"])
    assert (averaged(numbers["avg_scores"], views) - numbers["avg_prob"]).abs().max() < 1e-6
    assert (averaged(numbers["avg_scores"], views, torch.Tensor.float) - numbers["avg_score"]).abs().max() < 1e-5
    numbers = golden_tensors("16_views", "vtransformer")
    views = len(numbers["logits"]) // len(numbers["logits_avg"])
    found = averaged(numbers["logits"], views, torch.Tensor.float)
    assert (found - numbers["logits_avg"]).abs().max() < 1e-5
    assert (found.softmax(dim=1) - numbers["probs"]).abs().max() < 1e-6


def test_views_in_any_order_equal_the_originals() -> None:
    """The original adds up where the mean is taken here; views come as its workers had them ready."""
    numbers = golden_tensors("multiview_ensemble", "fgkvmem")
    views, labels = int(numbers["num_views"]), numbers["video_labels"]
    videos = numbers["view_ids"] // views
    batches = list(zip(videos.split(5), numbers["view_scores"].split(5)))
    found = mean_over_windows(torch.Tensor.float, batches, len(labels))
    assert (views * found - numbers["video_scores"]).abs().max() < 1e-6
    for k in (1, 5):
        assert round(100 * top_k(found, labels, k), 2) == float(numbers[f"top{k}"])


def test_point_13_ten_crop_golden() -> None:
    z = golden_tensors("tencrop")
    labels, fused = z["label"], {}
    for name in ("rgb", "flow"):
        logits = z[f"logits_{name}"]  # (videos, crops, windows, K), NaN where a video has fewer windows
        means = [averaged(video[:, :count].flatten(0, 1), count) for video, count in zip(logits, z["n_clips"].tolist())]
        protocols = crop_protocols(torch.stack(means))
        assert list(protocols) == ["centre", "five", "ten"]
        for ours, theirs in (("centre", "center"), ("five", "five"), ("ten", "ten")):
            torch.testing.assert_close(protocols[ours], z[f"{name}_{theirs}_prob"].float(), rtol=1e-5, atol=1e-5)
            found = [top_k(protocols[ours], labels, k) for k in (1, 5)]
            assert found == pytest.approx(z[f"{name}_{theirs}_acc"].tolist(), abs=1e-6)
        names = [f"v{number}" for number in range(len(labels))]
        fused[name] = Described(names=names, labels=labels, vectors=protocols["ten"])
    two = fused_probabilities(fused["rgb"], fused["flow"])
    torch.testing.assert_close(two.vectors, z["two_prob"].float(), rtol=1e-5, atol=1e-5)
    assert top_k(two.vectors, labels, 1) == pytest.approx(z["two_acc1"].item(), abs=1e-6)


def test_averaged_probabilities_sum_to_one() -> None:
    found = averaged(torch.randn(12, 5, generator=torch.Generator().manual_seed(0)), 3)
    assert (found.sum(dim=1) - 1).abs().max() < 1e-6
