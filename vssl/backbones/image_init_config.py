"""How a video transformer starts from an image transformer. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class ImageInitConfig:
    """What an image network's weights become where patches are of several frames and there is a time to attend to."""

    patch_embed: Literal["average", "centre"] = knob(
        "average",
        doc="the image's patches: spread evenly over a tubelet's frames, or of its middle frame alone",
    )
    temporal: Literal["copy", "zero"] = knob(
        "copy",
        doc="attention over time starts as the image's over space; zero: blocks over time add nothing at first, their "
        "last layers being zero. In divided blocks a projection does that in any case",
    )
    may_miss: tuple[str, ...] = knob(
        (),
        doc="patterns of names, such as blocks.1?.*, that the file need not have, beside what no image network has",
    )
