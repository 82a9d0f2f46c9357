"""Names of a trunk's parameters in PySlowFast and its forks (FGKVMem's public code) and in this project. Torch-free."""

from vssl.backbones.renaming import Rules, renamed

_RESNET: Rules = (
    (r"^s1\.pathway0_stem\.conv\.", "stem.0."),
    (r"^s1\.pathway0_stem\.bn\.", "stem.1."),
    (r"^s([2-5])\.pathway0_res(\d)\.", lambda match: f"layer{int(match[1]) - 1}.{match[2]}."),
    (r"\bbranch1\.", "downsample.0."),
    (r"\bbranch1_bn\.", "downsample.1."),
    (r"\bbranch2\.a\.", "conv1.0."),
    (r"\bbranch2\.a_bn\.", "conv1.1."),
    (r"\bbranch2\.b\.", "conv2.0."),
    (r"\bbranch2\.b_bn\.", "conv2.1."),
    (r"\bbranch2\.weight$", "conv1.0.weight"),  # the lone convolution in R3D-18's last stage
)
_R2PLUS1D: Rules = (
    (r"^s1\.pathway0_stem\.conv1\.", "stem.spatial."),
    (r"^s1\.pathway0_stem\.bn1\.", "stem.norm."),
    (r"^s1\.pathway0_stem\.conv2\.", "stem.temporal."),
    (r"^s1\.pathway0_stem\.bn2\.", "stem_norm."),
    (r"^s([2-5])\.pathway0_res0\.", lambda match: f"layers.{int(match[1]) - 2}."),
    (r"\bbranch1\.0\.", "shortcut.0.spatial."),
    (r"\bbranch1\.1\.", "shortcut.0.norm."),
    (r"\bbranch1\.3\.", "shortcut.0.temporal."),
    (r"\bbranch1_bn\.", "shortcut.1."),
    (r"\bbranch2\.a\.", "conv1.spatial."),
    (r"\bbranch2\.a_bn\.", "conv1.norm."),
    (r"\bbranch2\.a_conv2\.", "conv1.temporal."),
    (r"\bbranch2\.a_bn1\.", "norm1."),
    (r"\bbranch2\.b\.", "conv2.spatial."),
    (r"\bbranch2\.b_bn\.", "conv2.norm."),
    (r"\bbranch2\.b_conv2\.", "conv2.temporal."),
    (r"\bbranch2\.b_bn1\.", "norm2."),
)


def own_name(backbone: str, name: str) -> str:
    """The name that this project gives to a tensor of a PySlowFast trunk; unknown ones are handed back.

    Args:
        backbone: `r3d18`, `slow_r18` or `r21d`.
        name: such as `s3.pathway0_res0.branch2.a.weight`, without what stands before the trunk.
    """
    return renamed(name, _R2PLUS1D if backbone == "r21d" else _RESNET)
