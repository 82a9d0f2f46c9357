"""Names of parameters in ViCC's public code and in this project, for the backbones that both have. Torch-free.

The original S3D registers every module twice, by its own name (`Mixed_3b`) and inside a block (`block3.1`), so a file
names each tensor twice; either family is enough.
"""

import re
from collections.abc import Iterable

from vssl.backbones.renaming import Rules, renamed

_OWN_NAMES = {
    "Conv_1a": 0, "Conv_2b": 2, "Conv_2c": 3, "Mixed_3b": 5, "Mixed_3c": 6, "Mixed_4b": 8, "Mixed_4c": 9,
    "Mixed_4d": 10, "Mixed_4e": 11, "Mixed_4f": 12, "Mixed_5b": 14, "Mixed_5c": 15,
}  # fmt: skip
_IN_BLOCKS = {
    "block1.0": 0, "block2.1": 2, "block2.2": 3, "block3.1": 5, "block3.2": 6, "block4.1": 8, "block4.2": 9,
    "block4.3": 10, "block4.4": 11, "block4.5": 12, "block5.1": 14, "block5.2": 15,
}  # fmt: skip
_LAYER = re.compile(rf"({'|'.join(map(re.escape, [*_OWN_NAMES, *_IN_BLOCKS]))})\.(.+)")
_LAYER_NUMBERS = _OWN_NAMES | _IN_BLOCKS
_PARTS = {"conv": "0", "bn": "1", "conv1": "0.0", "bn1": "0.1", "conv2": "1.0", "bn2": "1.1"}

_R21D: Rules = (
    (r"^conv1\.", "stem."),
    (r"^bn1\.", "stem_norm."),
    (r"^conv([2-5])\.block1\.", lambda match: f"layers.{int(match[1]) - 2}."),
    (r"\bdownsampleconv\.", "shortcut.0."),
    (r"\bdownsamplebn\.", "shortcut.1."),
    (r"\bspatial_conv\.", "spatial."),
    (r"\btemporal_conv\.", "temporal."),
    (r"\bbn([12])\.", r"norm\1."),
    (r"\bbn\.", "norm."),
)


def recognised(names: Iterable[str]) -> str | None:
    """The backbone, as in `backbone.name`, whose tensors in the public code have such names; None: none of them."""
    known = list(names)
    if any(".gating_b0." in name for name in known):
        return "s3dg"
    if any(_LAYER.match(name) for name in known):
        return "s3d"
    return "r21d" if any(name.startswith("conv1.spatial_conv.") for name in known) else None


def own_name(backbone: str, name: str) -> str:
    """The name that this project gives to a tensor of the public code's backbone; unknown ones are handed back."""
    if backbone == "r21d":
        return renamed(name, _R21D)
    match = _LAYER.fullmatch(name)
    if match is None:
        return name
    inner = re.sub(r"^branch0\.0\.", "branch0.", match[2])
    inner = re.sub(r"^gating_b(\d)\.", r"gates.\1.", inner)
    parts = [_PARTS.get(part, part) for part in inner.split(".")]
    return f"features.{_LAYER_NUMBERS[match[1]]}.{'.'.join(parts)}"


def family(name: str) -> str:
    """Which of S3D's two names a tensor goes by: `named`, `blocks`, or nothing for other backbones."""
    match = _LAYER.match(name)
    return "" if match is None else "named" if match[1] in _OWN_NAMES else "blocks"


def published_names(backbone: str, name: str) -> list[str]:
    """All names that the public code gives to a tensor of one of its backbones in this project.

    The inverse of `own_name`.
    """
    if backbone == "r21d":
        name = re.sub(r"^stem\.", "conv1.", name)
        name = re.sub(r"^stem_norm\.", "bn1.", name)
        name = re.sub(r"^layers\.(\d)\.", lambda match: f"conv{int(match[1]) + 2}.block1.", name)
        name = name.replace("shortcut.0.", "downsampleconv.").replace("shortcut.1.", "downsamplebn.")
        name = name.replace("spatial.", "spatial_conv.").replace("temporal.", "temporal_conv.")
        return [re.sub(r"\bnorm([12]?)\.", r"bn\1.", name)]
    match = re.fullmatch(r"features\.(\d+)\.(.+)", name)
    assert match is not None, name
    inner, leaf = match[2].rsplit(".", 1)
    if ".fc" in inner:
        found = re.sub(r"^gates\.(\d)\.", r"gating_b\1.", match[2])
    else:
        found = f"{_inner_module(int(match[1]), inner)}.{leaf}"
    layers = [layer for layer, number in _LAYER_NUMBERS.items() if number == int(match[1])]
    return [f"{layer}.{found}" for layer in layers]


def _inner_module(layer: int, inner: str) -> str:
    """`branch1.1.0.0` -> `branch1.1.conv1`: a convolution or normalisation by the original's word."""
    factored = {number: word for word, number in _PARTS.items() if "." in number}
    plain = {number: word for word, number in _PARTS.items() if "." not in number}
    if layer in (0, 3):
        return factored[inner]
    if layer == 2:
        return plain[inner]
    branch, _, rest = inner.partition(".")
    if branch == "branch0":
        return f"branch0.0.{plain[rest]}"
    position, _, rest = rest.partition(".")
    return f"{branch}.{position}.{(factored if rest in factored else plain)[rest]}"
