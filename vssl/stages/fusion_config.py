"""Config of two-stream late fusion. Torch-free."""

from dataclasses import dataclass

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Features: sum of the similarity matrices. Predictions: mean of the probabilities. Joined by video name."""

    ks: tuple[int, ...] = knob((1, 5, 10, 20, 50), doc="recall at these ranks, for features", at_least=1)
