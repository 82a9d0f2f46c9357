"""RandAugment's strength. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class RandAugmentConfig:
    """Some operations on colours and geometry, drawn anew for each view (Cubuk et al. 2020). Defaults are STS's."""

    operations: int = knob(2, doc="how many are drawn, with replacement", at_least=1)
    magnitude: float = knob(7.0, doc="strength, of 10 (`increasing`) or of 30 (`torchvision`)", at_least=0)
    magnitude_std: float = knob(0.5, doc="its deviation, drawn for each operation anew", at_least=0)
    probability: float = knob(0.5, doc="that a drawn operation is done", at_least=0, at_most=1)
    space: Literal["increasing", "torchvision"] = knob(
        "increasing",
        doc="increasing: 15 operations, each the stronger the larger the magnitude, bicubic on mean grey (timm's "
        "rand-m7-mstd0.5-inc1 is the default); torchvision: its 14, nearest on black",
    )

    def __post_init__(self) -> None:
        if self.magnitude > self.strongest:
            raise ValueError(
                f"magnitude is {self.magnitude:g} and space is {self.space}; give at most {self.strongest}"
            )

    @property
    def strongest(self) -> int:
        """The magnitude of full strength."""
        return 10 if self.space == "increasing" else 30
