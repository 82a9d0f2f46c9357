"""In which order an epoch shows images several times, against the numbers of STS."""

import re
from typing import Any

import pytest
import torch

from tests.goldens import golden
from vssl.data.clips import Sample
from vssl.data.loader import TrainLoader
from vssl.data.views.augment import STATISTICS


class Numbers:
    """A dataset of which every sample is its own number."""

    statistics = STATISTICS["imagenet"]

    def __init__(self, count: int) -> None:
        self.video_ids = [str(number) for number in range(count)]

    def __len__(self) -> int:
        return len(self.video_ids)

    def sample(self, epoch: int, index: int, *, finish: bool = True, repeat: int = 0) -> Sample:
        return Sample(
            streams={"rgb": torch.zeros(1, 3, 1, 1, 1, dtype=torch.uint8)},
            looks=[],
            steps=torch.zeros(1, 1, dtype=torch.int64),
            total=1,
            label=repeat,
            video_id=self.video_ids[index],
            index=index,
        )


def test_sts_point_13_groups_get_what_the_originals_gpus_get(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of a batch stands for one of its GPUs; its order of an epoch for ours."""
    monkeypatch.setattr("vssl.data.orders.stream", lambda seed, epoch, _: torch.Generator().manual_seed(epoch))
    for key, expected in golden("repeat_aug", "sts").items():
        count, gpus, gpu, epoch = (int(number) for number in re.findall(r"\d+", key))
        numbers: Any = Numbers(count)
        for size in (1, 4):  # images of a GPU in a step, which change nothing but where the epoch ends
            loader = TrainLoader(numbers, gpus * size, seed=0, repeats=3, group_size=size)
            batches, mine = list(loader.batches(epoch)), slice(gpu * size, (gpu + 1) * size)
            shown = [int(name) for batch in batches for name in batch["video_ids"][mine]]
            repeats = [repeat for batch in batches for repeat in batch["labels"][mine].tolist()]
            assert len(shown) > len(expected) - size
            assert shown[: len(expected)] == expected[: len(shown)].tolist(), key
            assert repeats == [(gpus * place + gpu) % 3 for place in range(len(repeats))], key
