"""A set of images made on this machine. Torch-free."""

from dataclasses import dataclass

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class GeneratedImagesConfig:
    """Labelled images: classes differ by the outline of a textured object before a textured background."""

    images_per_class_train: int = knob(60, doc="images per class in the train split", at_least=1)
    images_per_class_val: int = knob(12, doc="images per class in the val split", at_least=1)
    classes: int = knob(8, doc="number of outlines", at_least=2, at_most=8)
    size: int = knob(64, doc="short side, pixels", at_least=32)
    seed: int = knob(0, doc="of textures, places, sizes and turns")
