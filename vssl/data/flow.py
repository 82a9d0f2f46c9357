"""Dense optical flow between consecutive frames, and its 8-bit form.

Source: ViCC (Toering et al., WACV 2022) and its public code: TV-L1, clipped to +-20 pixels. Stored as RGB the channels
are (128, v, u), so that a network for RGB frames reads it as it is.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vssl.data.decode import Frames
from vssl.data.encode import write_video
from vssl.run import StageError

Flow = NDArray[np.float32]  # (H, W, 2): u to the right, v downwards, pixels per frame


@dataclass(frozen=True)
class Estimator:
    """How flow is found: what is made of each frame once, and what of two of them."""

    see: Callable[[Frames], Any]  # (H, W, 3) uint8 RGB -> what `between` takes
    between: Callable[[Any, Any], Flow]


@dataclass(frozen=True)
class Encoding:
    """How flow is stored. `bits` a pixel: of TV-L1 on drifting and moving textures."""

    codec: str
    bits: float
    pixel_format: str | None = None
    options: tuple[tuple[str, str], ...] = ()


ENCODINGS = {
    "ffv1": Encoding("ffv1", 2.5),  # every frame by itself
    "h264-lossless": Encoding("libx264rgb", 1.5, "rgb24", (("qp", "0"), ("g", "16"))),
    "h264": Encoding("libx264rgb", 0.25, "rgb24", (("crf", "18"), ("g", "16"))),  # in RGB: no halved chroma
    "jpeg": Encoding("mjpeg", 0.5, "yuvj420p", (("qmin", "1"), ("qmax", "1"))),
}


def quantise(flow: Flow, bound: float) -> NDArray[np.uint8]:
    """Displacements clipped to +-bound and spread over 0..255; none at all becomes 128."""
    clipped = np.clip(flow.astype(np.float64), -bound, bound)
    return np.round((clipped + bound) * (255.0 / (2 * bound))).astype(np.uint8)


def to_rgb(flow: Flow, bound: float) -> NDArray[np.uint8]:
    """(H, W, 2) flow -> (H, W, 3) uint8 picture with (R, G, B) = (128, v, u)."""
    levels = quantise(flow, bound)
    return np.stack([np.full_like(levels[..., 0], 128), levels[..., 1], levels[..., 0]], axis=-1)


def flow_pictures(frames: Iterable[Frames], estimator: Estimator, bound: float) -> Iterator[NDArray[np.uint8]]:
    """The T - 1 flow pictures of T RGB frames, one after the other."""
    for before, after in pairwise(map(estimator.see, frames)):
        yield to_rgb(estimator.between(before, after), bound)


def write_flow(path: Path, pictures: Iterable[NDArray[np.uint8]], encoding: str, fps: float) -> int:
    """Store flow pictures; how many there were."""
    how = ENCODINGS[encoding]
    return write_video(
        path,
        pictures,
        codec=how.codec,
        fps=fps,
        pixel_format=how.pixel_format,
        options=dict(how.options),
        container="matroska",
    )


@lru_cache(maxsize=1)
def estimator(algorithm: str, weights: Path | None = None) -> Estimator:
    """Farneback: a few milliseconds per small pair. TV-L1: the paper's, some forty times slower. RAFT: for a GPU.

    Args:
        algorithm: farneback, tvl1 or raft.
        weights: file of RAFT's.

    Raises:
        StageError: OpenCV is not installed, or lacks TV-L1; or the weights are missing or of another network.
    """
    if algorithm == "raft":
        from vssl.data.raft import Raft

        raft = Raft(_given(weights))
        return Estimator(raft.see, raft.between)
    cv2 = _opencv()
    cv2.setNumThreads(1)
    if algorithm == "farneback":
        return Estimator(
            lambda frame: cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY),
            lambda before, after: cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0),
        )
    if not hasattr(cv2, "optflow"):
        raise StageError(
            "this OpenCV has no TV-L1: install vssl's extra `flow` (opencv-contrib-python-headless) in place of it, "
            "or set algorithm=farneback"
        )
    method = cv2.optflow.DualTVL1OpticalFlow_create()
    return Estimator(
        lambda frame: cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), lambda before, after: method.calc(before, after, None)
    )


def check_estimator(algorithm: str, weights: Path | None) -> None:
    """Fail before any work where an algorithm cannot be had; a network is left to the processes that will use it.

    Raises:
        StageError: as `estimator`.
    """
    if algorithm == "raft":
        _given(weights)
    else:
        estimator(algorithm)


def _given(weights: Path | None) -> Path:
    if weights is None:
        raise StageError(
            "algorithm is raft, and no weights are bound; bind torchvision's, as in inputs: {weights: "
            "file:/data/raft_large.pth}, or set algorithm=tvl1"
        )
    return weights


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise StageError("optical flow needs OpenCV: install vssl's extra `flow`, pip install 'vssl[flow]'") from None
    return cv2
