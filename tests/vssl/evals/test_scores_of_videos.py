"""Scores of views become scores of videos as in the originals, by the function that all tests of classifiers call."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tests.goldens import golden_tensors
from vssl.data.views import augment
from vssl.evals.features import mean_over_windows
from vssl.evals.metrics import top_k


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
        found = mean_over_windows(network, clips_of_videos(views, len(expected) // len(views)), len(views))
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


def clips_of_videos(views: Tensor, per_video: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, V, 3, T, H, W) views as the loader hands them on; one-frame views are the frames of clips, crop by crop."""
    for number, of_video in enumerate(views):
        if of_video.shape[2] == 1:
            planes = of_video[:, :, 0].chunk(per_video)  # (T, 3, H, W) of each crop
            of_video = torch.stack([augment.to_view(one) for one in planes])
        yield torch.full((len(of_video),), number), of_video


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


def test_averaged_probabilities_sum_to_one() -> None:
    found = averaged(torch.randn(12, 5, generator=torch.Generator().manual_seed(0)), 3)
    assert (found.sum(dim=1) - 1).abs().max() < 1e-6
