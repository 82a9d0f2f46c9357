"""Groups of videos of one class: which classes and videos come, how often, for whom, and what stands in for what."""

from collections import Counter
from typing import Any

import pytest

from tests.tiny_clips import break_file, clips_of, same
from vssl.artifacts import Artifact
from vssl.config import ConfigError
from vssl.data.loader import TrainLoader
from vssl.data.orders import OneClassGroups

CLASSES = ("bowl", "pullup", "squat")
LABELS = [0] * 3 + [1] * 9 + [2] * 6


def in_groups(items: list[Any], size: int) -> list[tuple[Any, ...]]:
    return [tuple(items[first : first + size]) for first in range(0, len(items), size)]


def groups(size: int = 3, epochs: int = 1, seed: int = 0) -> list[tuple[int, ...]]:
    order = OneClassGroups(LABELS, CLASSES, size, seed)
    places = [(epoch, place) for epoch in range(epochs) for place in range(3 * size)]
    return in_groups([next(order.at(*place).candidates) for place in places], size)


def test_a_group_holds_distinct_videos_of_one_class() -> None:
    for group in groups(epochs=100):
        assert len(set(group)) == 3
        assert len({LABELS[video] for video in group}) == 1


def test_classes_are_equally_likely_and_so_are_their_videos() -> None:
    """Whatever the number of their videos: a video of a class of three comes three times as often as one of nine."""
    found = groups(epochs=2000)  # 6,000 groups
    classes = Counter(LABELS[group[0]] for group in found)
    videos = Counter(video for group in found for video in group)
    assert all(classes[label] / len(found) == pytest.approx(1 / 3, abs=0.02) for label in range(3))
    for video, label in enumerate(LABELS):
        assert videos[video] / len(found) == pytest.approx(1 / LABELS.count(label), rel=0.12)


def test_groups_depend_on_seed_epoch_and_place_alone() -> None:
    order, again = (OneClassGroups(LABELS, CLASSES, 3, 0) for _ in range(2))
    later = [[*order.at(4, place).candidates] for place in range(9)]
    assert [[*again.at(4, place).candidates] for place in reversed(range(9))] == later[::-1]
    assert groups() != groups(seed=1)
    assert len(set(groups(epochs=2))) > 3, "groups of a step, and of an epoch, are drawn apart"


def test_who_stands_in_is_of_the_same_class_and_not_in_the_group() -> None:
    order = OneClassGroups(LABELS, CLASSES, 3, 0)
    for place in range(30):
        shown = {next(order.at(0, 3 * (place // 3) + slot).candidates) for slot in range(3)}
        first, *others = order.at(0, place).candidates
        of_class = {video for video, label in enumerate(LABELS) if label == LABELS[first]}
        assert set(others) == of_class
        assert set(others[: len(of_class) - 3]) == of_class - shown


@pytest.mark.parametrize(
    ("videos", "gpus", "batch", "steps"), [(1140, 4, 4, 71), (1140, 1, 4, 285), (966, 4, 4, 60), (70, 4, 2, 9)]
)
def test_an_epoch_has_as_many_steps_as_in_the_original(videos: int, gpus: int, batch: int, steps: int) -> None:
    """floor(ceil(N / GPUs) / batch), a group being the batch of a GPU."""
    labels = [number % 2 for number in range(videos)]
    assert OneClassGroups(labels, CLASSES, batch, 0).steps_per_epoch(gpus * batch) == steps


def test_what_has_no_classes_is_refused() -> None:
    for labels, word in (
        ([1] * 8, "have the class pullup alone; set it to false"),
        ([-1, 0, 1, 1, 0, 0], "have no class"),
        ([0, 0, 1, 1, 1, 2, 2, 2], r"fewer videos: bowl \(2\); set it to at most 2"),
    ):
        with pytest.raises(ConfigError, match=word):
            OneClassGroups(labels, CLASSES, 3, 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_ranks_processes_and_restarts_change_nothing(prepared_source: Artifact, workers: int) -> None:
    whole = TrainLoader(clips_of(prepared_source), 4, seed=0, class_group_size=2)
    batches = list(whole.batches(5))
    assert len(batches) == whole.steps_per_epoch == 2
    for batch in batches:
        assert all(one == other for one, other in in_groups(batch["labels"].tolist(), 2))
    other = TrainLoader(clips_of(prepared_source), 4, seed=0, class_group_size=2, workers=workers)
    try:
        assert same(next(other.batches(5, 1)), batches[1])
    finally:
        other.close()
    for rank in range(2):
        part = TrainLoader(clips_of(prepared_source), 4, seed=0, class_group_size=2, rank=rank, world_size=2)
        rows = slice(2 * rank, 2 * rank + 2)
        assert [batch["video_ids"] for batch in part.batches(5)] == [batch["video_ids"][rows] for batch in batches]


def test_a_video_that_comes_again_in_an_epoch_has_other_draws(prepared_source: Artifact) -> None:
    loader = TrainLoader(clips_of(prepared_source), 2, seed=0, class_group_size=2)
    seen: dict[str, list[bytes]] = {}
    for batch in loader.batches(0):
        for name, views in zip(batch["video_ids"], batch["streams"]["rgb"]):
            seen.setdefault(name, []).append(views.numpy().tobytes())
    assert max(map(len, seen.values())) > 1
    assert all(len(set(of_video)) == len(of_video) for of_video in seen.values())


def test_a_file_that_breaks_gives_way_to_another_of_its_class(own_source: Artifact) -> None:
    def shown() -> list[str]:
        loader = TrainLoader(clips_of(own_source), 2, seed=0, class_group_size=2)
        return [name for batch in loader.batches(0) for name in batch["video_ids"]]

    before = shown()
    break_file(own_source, before[0])
    after = shown()
    assert after[0] not in before[:2]
    assert after[0].partition("/")[0] == before[0].partition("/")[0]
    assert [now for now, then in zip(after, before) if then != before[0]] == [n for n in before if n != before[0]]
