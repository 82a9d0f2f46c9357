"""MaskFeat's own knobs (Wei et al., CVPR 2022). Torch-free."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class MaskFeatConfig:
    """Histograms of gradients are predicted where cubes of a clip are hidden."""

    main_stream: ClassVar[None] = None  # one modality
    bn_group_size: ClassVar[None] = None  # no batch normalisation

    name: Literal["maskfeat"] = "maskfeat"
    mask_ratio: float = knob(0.4, doc="share that is hidden", above=0, at_most=0.9)
    masking: Literal["volume", "original"] = knob(
        "volume",
        doc="what mask_ratio is of: the clip's volume, as in the paper; original: of the frames and of each masked "
        "frame's patches, which hides 0.148 of the volume at 0.4, as in the public code",
    )
    smallest_rectangle: int = knob(16, doc="patches of the smallest rectangle that is tried", at_least=1)

    @property
    def ratio_of_each(self) -> float:
        """Share of the frames that have a mask, and of the patches of such a frame."""
        return self.mask_ratio if self.masking == "original" else self.mask_ratio**0.5

    def hides(self, grid: tuple[int, int, int]) -> tuple[int, int]:
        """(frames, patches of each) that are hidden of t x h x w patches; the original rounds down."""
        counts = (grid[0] * self.ratio_of_each, grid[1] * grid[2] * self.ratio_of_each)
        frames, patches = (int(n) if self.masking == "original" else round(n) for n in counts)
        return frames, patches
