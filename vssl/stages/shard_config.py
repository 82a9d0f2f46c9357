"""Config of work that several stages may share. Torch-free."""

import re
from dataclasses import dataclass, replace
from typing import Self

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """Work on every video of a dataset, or on a share of them.

    A stage without a shard takes what stages with one have made, as its `parts`: they work at once, on as many
    machines as there are shares, and leave no trace in what the whole is or how it is called.
    """

    shard: str = knob(
        "", doc="the share of the videos that is done: 2/8 is the second of eight; '': all", since="0.2", neutral=""
    )

    def __post_init__(self) -> None:
        number, of = self.share
        if not 1 <= number <= of:
            raise ValueError(
                f"shard is {self.shard!r}; expected the number of a share and how many there are, from 1/8 to 8/8"
            )

    @property
    def share(self) -> tuple[int, int]:
        """(number from 1, how many there are)."""
        match = re.fullmatch(r"(\d+)/(\d+)", self.shard or "1/1")
        return (int(match[1]), int(match[2])) if match else (0, 0)

    def whole(self) -> Self:
        """The config of the stage whose part this one makes."""
        return replace(self, shard="")
