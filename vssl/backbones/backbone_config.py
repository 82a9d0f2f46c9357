"""Which backbone, with which normalisation. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vssl.backbones.sts_backbones_config import STSBackboneConfig, STSBackbonesConfig
from vssl.config import knob, to_mapping

VideoAttention = Literal["divided_space_time", "joint_space_time", "space_only", "fact_encoder"]


@dataclass(frozen=True, kw_only=True)
class S3DConfig:
    """Separable Inception-v1 (Xie et al. 2018), 1024 features."""

    name: Literal["s3d"] = "s3d"


@dataclass(frozen=True, kw_only=True)
class S3DGConfig:
    """S3D with self-gating, 1024 features."""

    name: Literal["s3dg"] = "s3dg"


@dataclass(frozen=True, kw_only=True)
class R2Plus1DConfig:
    """R(2+1)D of ten layers (Tran et al. 2018), 512 features."""

    name: Literal["r21d"] = "r21d"


@dataclass(frozen=True, kw_only=True)
class R3D18Config:
    """3D residual network of 18 layers (Tran et al. 2018), 8 x width features."""

    name: Literal["r3d18"] = "r3d18"
    width: int = knob(64, doc="channels of the first stage", at_least=1)
    last_stage: Literal["dilated_first_conv", "original", "strided"] = knob(
        "dilated_first_conv",
        doc="keeps time by dilation (TCLR); original: FGKVMem's public code, whose dilated convolution stands alone in "
        "its block; strided: torchvision's",
    )


@dataclass(frozen=True, kw_only=True)
class SlowR18Config:
    """The slow pathway of SlowFast with 18 layers (Feichtenhofer et al. 2019), 8 x width features."""

    name: Literal["slow_r18"] = "slow_r18"
    width: int = knob(64, doc="channels of the first stage", at_least=1)


@dataclass(frozen=True, kw_only=True)
class _VideoTransformerConfig:
    """What TimeSformer and ViViT share. Tables are resized where weights of another size are read."""

    embed_dim: int = knob(768, doc="size of a token", at_least=1)
    depth: int = knob(12, doc="blocks, of a factorised encoder the spatial ones", at_least=1)
    num_heads: int = knob(12, doc="heads of an attention", at_least=1)
    patch_size: int = knob(16, doc="side of a patch, pixels", at_least=1)
    image_size: int = knob(224, doc="side of the frames that the position table is made for, pixels", at_least=1)
    positions: Literal["learned", "fixed"] = knob(
        "learned",
        doc="tables of positions and times; fixed: sines and cosines from 0 for the class token, so that patches have "
        "the place after MAE's; learned starts as MAE's own where its weights are read",
    )
    time_init: Literal["zero", "normal"] = knob(
        "zero",
        doc="what a learned time table starts as: zero as TimeSformer has it, or drawn, as the public code has it now",
    )
    pooled: Literal["class", "patches"] = knob("class", doc="the feature: the class token, or the mean of the patches")

    def __post_init__(self) -> None:
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim is {self.embed_dim} and num_heads is {self.num_heads}; embed_dim must be a multiple, such "
                f"as {self.num_heads * max(1, self.embed_dim // self.num_heads)}"
            )
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size is {self.image_size} and patch_size is {self.patch_size}; image_size must be a multiple, "
                f"such as {self.patch_size * max(1, self.image_size // self.patch_size)}"
            )


@dataclass(frozen=True, kw_only=True)
class TimeSformerConfig(_VideoTransformerConfig):
    """Vision transformer with attention over space and time (Bertasius et al. 2021), embed_dim features."""

    name: Literal["timesformer"] = "timesformer"
    attention: Literal["divided_space_time", "joint_space_time", "space_only"] = knob(
        "divided_space_time", doc="over time and then space, over both at once, or over space alone"
    )
    num_frames: int = knob(8, doc="frames of a clip", at_least=1)


@dataclass(frozen=True, kw_only=True)
class ViViTConfig(_VideoTransformerConfig):
    """Vision transformer over tubelets (Arnab et al. 2021), embed_dim features."""

    name: Literal["vivit"] = "vivit"
    attention: Literal["fact_encoder", "joint_space_time", "divided_space_time"] = knob(
        "fact_encoder",
        doc="the paper's models 2 (an encoder over space, then one over time), 1 (both at once) and 3 (over time and "
        "then space in each block)",
    )
    num_frames: int = knob(16, doc="frames of a clip", at_least=1)
    tubelet_size: int = knob(2, doc="frames of a patch", at_least=1)
    temporal_depth: int = knob(4, doc="blocks of the encoder over time", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_frames % self.tubelet_size:
            raise ValueError(
                f"num_frames is {self.num_frames} and tubelet_size is {self.tubelet_size}; num_frames must be a "
                f"multiple, such as {self.tubelet_size * max(1, self.num_frames // self.tubelet_size)}"
            )


@dataclass(frozen=True, kw_only=True)
class MViTBConfig:
    """Multiscale vision transformer of 16 blocks (Fan et al. 2021) as in MaskFeat's public code, 8 x width features."""

    name: Literal["mvit_b"] = "mvit_b"
    width: int = knob(96, doc="channels of the first block, and of a head", at_least=1)
    num_frames: int = knob(16, doc="frames of a clip", at_least=2)
    image_size: int = knob(224, doc="side of the frames, pixels", at_least=16)

    def __post_init__(self) -> None:
        if self.num_frames % 2 or self.image_size % 16:
            raise ValueError(
                f"num_frames is {self.num_frames} and image_size is {self.image_size}; take multiples of 2 and of 16, "
                f"such as {self.num_frames + self.num_frames % 2} and {self.image_size // 16 * 16}"
            )


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """Three small 3D convolutions: seconds a stage on a CPU, for smoke runs and tests."""

    name: Literal["tiny"] = "tiny"
    width: int = knob(16, doc="channels of the first layer; features are four times as many", at_least=1)


@dataclass(frozen=True, kw_only=True)
class FrameResNet50Config:
    """ResNet-50 of single frames (He et al. 2016), under torchvision's names; 2048 features, without layer4 1024."""

    name: Literal["frame_resnet50"] = "frame_resnet50"
    layers: Literal[3, 4] = knob(
        4, doc="residual layers: CARL's transformer embeds maps of layer4, its 3D one layer3's"
    )


@dataclass(frozen=True, kw_only=True)
class TinyFramesConfig:
    """A stem and four convolutions of single frames, as a ResNet is divided, for smoke and demo runs and tests."""

    name: Literal["tiny_frames"] = "tiny_frames"
    width: int = knob(
        8, doc="channels of the stem; features are eight times as many, half of that with 3 layers", at_least=1
    )
    layers: Literal[3, 4] = knob(4, doc="convolutions after the stem")


FrameBackboneConfig = FrameResNet50Config | TinyFramesConfig
BackboneConfig = (
    S3DConfig
    | S3DGConfig
    | R2Plus1DConfig
    | R3D18Config
    | SlowR18Config
    | STSBackbonesConfig
    | TimeSformerConfig
    | ViViTConfig
    | MViTBConfig
    | TinyConfig
    | FrameBackboneConfig
)

_SWITCHES = ("sts", "sts_aligned")


def of_weights(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a backbone's config, as plain values, that its weights depend on: all but the switches of STS."""
    return {key: value for key, value in backbone.items() if key not in _SWITCHES}


TRANSFORMERS = (TimeSformerConfig, ViViTConfig, MViTBConfig)  # with layers that decay, and tables that are resized

_NOT_OF_THE_NETWORK = ("num_frames", "image_size", "time_init")  # tables are resized, and filled


def starts_video(image: Mapping[str, Any], video: Mapping[str, Any]) -> bool:
    """Whether one transformer starts from the other as from an image network, both configs as plain values.

    Such are published image transformers, and for the others TimeSformer with attention over space alone.
    """
    return image.get("name") == "vit" or (image.get("attention") == "space_only" != video.get("attention"))


def is_same_network(config: Mapping[str, Any], other: Any) -> bool:
    """Whether weights of a network with the config `other` fit one with `config`, both as plain values.

    Transformers may differ in the sizes that their tables are resized for, and start from image transformers; of a
    published one some values are not known.
    """
    if not isinstance(other, Mapping):
        return False
    if config["name"] not in {member.name for member in TRANSFORMERS}:
        return of_weights(config) == of_weights(other)
    if config["name"] != MViTBConfig.name and starts_video(other, config):
        return all(other.get(key) in (None, config[key]) for key in ("embed_dim", "patch_size"))
    return all(config.get(key) == value for key, value in other.items() if key not in _NOT_OF_THE_NETWORK)


def refuse_other_clips(config: BackboneConfig, *, num_frames: int, sides: tuple[int, ...]) -> None:
    """
    Raises:
        ValueError: a transformer's tables are of other clips than it is to see; sides of 0 are not looked at.
    """
    if isinstance(config, TimeSformerConfig) and config.attention == "space_only":
        return
    if isinstance(config, TRANSFORMERS) and config.num_frames != num_frames:
        raise ValueError(
            f"backbone.num_frames is {config.num_frames} and data.num_frames is {num_frames}; make them the same: "
            "tables of weights that were trained on another number are resized"
        )
    if isinstance(config, MViTBConfig) and any(side not in (0, config.image_size) for side in sides):
        raise ValueError(
            f"backbone.image_size is {config.image_size} and views have {' and '.join(str(s) for s in sides if s)} "
            "pixels (data.crop_size, test_view.crop_size); make them the same: tables of weights are resized"
        )


def refuse_undroppable(drop_path: float, config: BackboneConfig) -> None:
    """
    Raises:
        ValueError: stochastic depth is asked of a network that has no branches to drop.
    """
    if drop_path and not isinstance(config, TimeSformerConfig | ViViTConfig | STSBackboneConfig):
        raise ValueError(
            f"drop_path is {drop_path} and backbone.name is {config.name}, without branches to drop; set drop_path to "
            "0, or take timesformer, vivit or a backbone of STS"
        )


def takes_weights(own: BackboneConfig, theirs: BackboneConfig, kind: str) -> bool:
    """Whether a stage of this kind may read the weights of another backbone; one that only tests asks for the same."""
    return own == theirs or (kind != "multiview" and is_same_network(to_mapping(own), to_mapping(theirs)))
