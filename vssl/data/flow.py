"""Dense optical flow between consecutive frames, and its 8-bit form.

Source: ViCC (Toering et al., WACV 2022) and its public code: TV-L1, clipped to +-20 pixels. Stored as RGB the channels
are (128, v, u), so that a network for RGB frames reads it as it is.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vssl.data.decode import Frames
from vssl.run import StageError

Flow = NDArray[np.float32]  # (H, W, 2): u to the right, v downwards, pixels per frame
Estimate = Callable[[NDArray[np.uint8], NDArray[np.uint8]], Flow]  # two grey frames -> flow between them


def quantise(flow: Flow, bound: float) -> NDArray[np.uint8]:
    """Displacements clipped to +-bound and spread over 0..255; none at all becomes 128."""
    clipped = np.clip(flow.astype(np.float64), -bound, bound)
    return np.round((clipped + bound) * (255.0 / (2 * bound))).astype(np.uint8)


def to_rgb(flow: Flow, bound: float) -> NDArray[np.uint8]:
    """(H, W, 2) flow -> (H, W, 3) uint8 picture with (R, G, B) = (128, v, u)."""
    levels = quantise(flow, bound)
    return np.stack([np.full_like(levels[..., 0], 128), levels[..., 1], levels[..., 0]], axis=-1)


def flow_pictures(frames: Iterable[Frames], estimate: Estimate, bound: float) -> Iterator[NDArray[np.uint8]]:
    """The T - 1 flow pictures of T RGB frames, one after the other."""
    cv2 = _opencv()
    for before, after in pairwise(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames):
        yield to_rgb(estimate(before, after), bound)


def estimator(algorithm: str) -> Estimate:
    """Farneback: a few milliseconds per small pair. TV-L1: the paper's, some forty times slower.

    Raises:
        StageError: OpenCV is not installed, or lacks TV-L1.
    """
    cv2 = _opencv()
    cv2.setNumThreads(1)
    if algorithm == "farneback":
        return lambda before, after: cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    if not hasattr(cv2, "optflow"):
        raise StageError(
            "this OpenCV has no TV-L1: install vssl's extra `flow` (opencv-contrib-python-headless) in place of it, "
            "or set algorithm=farneback"
        )
    method = cv2.optflow.DualTVL1OpticalFlow_create()
    return lambda before, after: method.calc(before, after, None)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise StageError("optical flow needs OpenCV: install vssl's extra `flow`, pip install 'vssl[flow]'") from None
    return cv2
