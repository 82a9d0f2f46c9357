"""Config of a summary over lanes. Torch-free."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SummaryConfig:
    """Mean and standard deviation of every metric over the collected stages."""
