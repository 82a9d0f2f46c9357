"""Which video stands at which place of an epoch: a function of seed, epoch and place, the same for all who ask."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from vssl.config import ConfigError
from vssl.data.listing import UNLABELLED
from vssl.randomness import stream


@dataclass(frozen=True)
class Place:
    """What is shown at one place of an epoch."""

    candidates: Iterator[int]  # the video of the place, then those that stand in for it should it break
    repeat: int  # tells the showings of one video in an epoch apart, which have draws of their own


class Order(Protocol):
    """Places are counted through an epoch: batch after batch, in each slot after slot of the global batch."""

    def steps_per_epoch(self, global_batch_size: int) -> int: ...

    def at(self, epoch: int, place: int) -> Place: ...


class Shuffled:
    """Every video once an epoch, or one in `repeats` of them so often in a row. What breaks gives way to the next.

    Args:
        count: of videos.
        seed: of the order.
        repeats: how often a video that an epoch shows comes in it.
    """

    def __init__(self, count: int, seed: int, *, repeats: int = 1) -> None:
        self._count, self._seed, self._repeats = count, seed, repeats
        self._newest: tuple[int, list[int]] = (-1, [])

    def steps_per_epoch(self, global_batch_size: int) -> int:
        """The rest that fills no batch is dropped."""
        return self._count // global_batch_size

    def at(self, epoch: int, place: int) -> Place:
        position, repeat = divmod(place, self._repeats)
        order = self._of(epoch)
        return Place((order[(position + offset) % self._count] for offset in range(self._count)), repeat)

    def _of(self, epoch: int) -> list[int]:
        if self._newest[0] != epoch:
            shuffled = torch.randperm(self._count, generator=stream(self._seed, epoch, "order"))
            self._newest = (epoch, shuffled.tolist())
        return self._newest[1]


class OneClassGroups:
    """Groups of distinct videos of one class, which is drawn for each group anew, all classes being equally likely.

    So an epoch shows some videos several times and others never. A video that breaks gives way to one of its class
    that the group does not show. The original draws the same group on every GPU, having seeded all of them alike.

    Args:
        labels: class of each video.
        classes: their names.
        group_size: videos of a group.
        seed: of classes and videos.

    Raises:
        ConfigError: the videos have no classes that they could be grouped by, or one of these fills no group.

    Source: the batches of one action of CARL's public code (Chen et al., CVPR 2022) for its baselines on PennAction.
    """

    def __init__(self, labels: Sequence[int], classes: Sequence[str], group_size: int, seed: int) -> None:
        members: dict[int, list[int]] = defaultdict(list)
        for index, label in enumerate(labels):
            members[label].append(index)
        if UNLABELLED in members or len(members) < 2:
            found = "no class" if UNLABELLED in members else f"the class {classes[labels[0]]} alone"
            raise ConfigError(
                f"method.one_class_per_loss is true, and videos of the split have {found}; set it to false, or take a "
                "dataset whose videos have classes, as the actions of penn_action"
            )
        short = [f"{classes[label]} ({len(of)})" for label, of in sorted(members.items()) if len(of) < group_size]
        if short:
            raise ConfigError(
                f"method.one_class_per_loss is true and method.videos_per_loss is {group_size}, and of these classes "
                f"the split has fewer videos: {', '.join(short)}; set it to at most {min(map(len, members.values()))}"
            )
        self._members = [members[label] for label in sorted(members)]
        self._count, self._size, self._seed = len(labels), group_size, seed

    def steps_per_epoch(self, global_batch_size: int) -> int:
        """As in the original, where a group is a GPU's batch: whole groups in its share of the videos, rounded up."""
        return -(-self._count // (global_batch_size // self._size)) // self._size

    def at(self, epoch: int, place: int) -> Place:
        group, slot = divmod(place, self._size)
        generator = stream(self._seed, epoch, "class", group)
        videos = self._members[int(torch.randint(len(self._members), (), generator=generator))]
        drawn = [videos[i] for i in torch.randperm(len(videos), generator=generator).tolist()]
        others = [*drawn[self._size :], *drawn[: self._size]]
        return Place(iter([drawn[slot], *others]), repeat=group)
