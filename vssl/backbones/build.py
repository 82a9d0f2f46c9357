"""From a backbone's config to the network."""

from collections.abc import Callable
from typing import Any

from torch import nn

from vssl.backbones.backbone_config import BackboneConfig, TimeSformerConfig, ViViTConfig
from vssl.backbones.csn import CSN50
from vssl.backbones.frames import FrameResNet50, TinyFrames
from vssl.backbones.mvit import MViTB
from vssl.backbones.r2plus1d import R2Plus1D
from vssl.backbones.r2plus1d34 import R2Plus1D34
from vssl.backbones.resnet3d import R3D18, SlowR18
from vssl.backbones.s3d import S3D, S3DG
from vssl.backbones.slowfast import SlowFast50
from vssl.backbones.slowonly import SlowOnly50
from vssl.backbones.sts_backbones_config import STSBackboneConfig
from vssl.backbones.tiny import Tiny
from vssl.backbones.vit_video import VideoTransformer
from vssl.backbones.x3d import X3DS
from vssl.config import to_mapping
from vssl.nn.batchnorm import NormLayer
from vssl.nn.sts import set_sts

Backbone = (
    S3D
    | S3DG
    | R2Plus1D
    | R3D18
    | SlowR18
    | CSN50
    | R2Plus1D34
    | SlowOnly50
    | SlowFast50
    | X3DS
    | VideoTransformer
    | MViTB
    | Tiny
    | FrameResNet50
    | TinyFrames
)

BACKBONES: dict[str, Callable[[Any, NormLayer], Backbone]] = {
    "s3d": lambda config, norm_layer: S3D(norm_layer),
    "s3dg": lambda config, norm_layer: S3DG(norm_layer),
    "r21d": lambda config, norm_layer: R2Plus1D(norm_layer),
    "r3d18": lambda config, norm_layer: R3D18(config.width, config.last_stage, norm_layer),
    "slow_r18": lambda config, norm_layer: SlowR18(config.width, norm_layer),
    "csn50": lambda config, norm_layer: CSN50(config.width, norm_layer),
    "r2plus1d34": lambda config, norm_layer: R2Plus1D34(config.width, norm_layer),
    "slowonly50": lambda config, norm_layer: SlowOnly50(config.width, norm_layer),
    "slowfast50_4x16": lambda config, norm_layer: SlowFast50(config.width, 8, 5, norm_layer),
    "slowfast50_8x8": lambda config, norm_layer: SlowFast50(config.width, 4, 7, norm_layer),
    "x3d_s": lambda config, norm_layer: X3DS(config.width, norm_layer),
    "timesformer": lambda config, norm_layer: _video_transformer(config),
    "vivit": lambda config, norm_layer: _video_transformer(config),
    "mvit_b": lambda config, norm_layer: MViTB(config.width, config.num_frames, config.image_size),
    "tiny": lambda config, norm_layer: Tiny(config.width, norm_layer),
    "frame_resnet50": lambda config, norm_layer: FrameResNet50(config.layers, norm_layer),
    "tiny_frames": lambda config, norm_layer: TinyFrames(config.width, config.layers, norm_layer),
}


def build_backbone(config: BackboneConfig, norm_layer: NormLayer = nn.BatchNorm3d) -> Backbone:
    """A network (B, 3, T, H, W) -> (B, C, t, h, w) with an attribute `num_features` = C.

    Initial weights come from torch's global generator: see `vssl.randomness.seeded`.

    Args:
        config: which backbone.
        norm_layer: number of channels -> batch normalisation layer, of those that have any; transformers have none.
    """
    network = BACKBONES[config.name](config, norm_layer)
    if isinstance(config, STSBackboneConfig):
        set_sts(network, config.sts, aligned=config.sts_aligned)
    return network


def _video_transformer(config: TimeSformerConfig | ViViTConfig) -> VideoTransformer:
    knobs = {key: value for key, value in to_mapping(config).items() if key != "name"}
    return VideoTransformer(**({"tubelet_size": 1} | knobs))
