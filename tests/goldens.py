"""Numbers of the original systems, from the folder that VSSL_GOLDEN names."""

import os
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(os.environ.get("VSSL_GOLDEN") or Path(__file__).parent / "golden")


def golden(name: str, method: str = "vicc") -> dict[str, np.ndarray]:
    """The arrays of one file."""
    with np.load(FOLDER / method / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def golden_tensors(name: str, method: str = "vicc") -> dict[str, torch.Tensor]:
    """The numeric arrays of one file, as tensors of the same type."""
    return {key: torch.from_numpy(a) for key, a in golden(name, method).items() if a.dtype.kind in "fiub"}
