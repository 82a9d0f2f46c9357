"""What a network says of a clip does not depend on the clips beside it, for every network there is."""

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from vssl.backbones.backbone_config import BackboneConfig
from vssl.backbones.build import BACKBONES, build_backbone
from vssl.config import build
from vssl.nn.initial import he_convolutions
from vssl.randomness import seeded
from vssl.stages.linear_config import LinearConfig

MOST = 4
_VIT: dict[str, Any] = {
    "embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 16, "image_size": 32, "num_frames": 8,
    "time_init": "normal",
}  # fmt: skip
# name of the backbone -> its small configs
SMALL: dict[str, list[dict[str, Any]]] = {
    "s3d": [{}],
    "s3dg": [{}],
    "r21d": [{}],
    "r3d18": [{"width": 4, "last_stage": stage} for stage in ("dilated_first_conv", "original", "strided")],
    "slow_r18": [{"width": 4}],
    "csn50": [{"width": 4, "sts": sts} for sts in (False, True)],
    "r2plus1d34": [{"width": 4, "sts": True}],
    "slowonly50": [{"width": 4, "sts": True}],
    "slowfast50_4x16": [{"width": 32, "sts": True}],
    "slowfast50_8x8": [{"width": 32, "sts": True}],
    "x3d_s": [{"width": 8, "sts": True}],
    "timesformer": [_VIT | {"attention": a} for a in ("divided_space_time", "joint_space_time", "space_only")],
    "vivit": [_VIT | {"attention": a} for a in ("fact_encoder", "divided_space_time", "joint_space_time")],
    "mvit_b": [{"width": 4, "num_frames": 8, "image_size": 32}],
    "tiny": [{"width": 4}],
    "frame_resnet50": [{"layers": 3}],
    "tiny_frames": [{"width": 4, "layers": layers} for layers in (3, 4)],
}
CASES = [
    pytest.param(
        name,
        knobs,
        id="-".join([name, *(str(knobs[key]) for key in ("attention", "last_stage", "sts") if key in knobs)]),
    )
    for name, configs in SMALL.items()
    for knobs in configs
]


def backbone_config(name: str, knobs: dict[str, Any]) -> BackboneConfig:
    data = {"dataset": {"name": "tiny"}, "num_frames": 8, "crop_size": 32}
    return build(LinearConfig, {"backbone": {"name": name} | knobs, "data": data}).backbone


def test_every_network_is_asked() -> None:
    assert set(SMALL) == set(BACKBONES)


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.randn(MOST, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "knobs"), CASES)
def test_a_clip_means_the_same_in_every_batch(name: str, knobs: dict[str, Any], clips: Tensor) -> None:
    with seeded(0):
        network: nn.Module = build_backbone(backbone_config(name, knobs)).eval()
        he_convolutions(network)  # S3D's own are so small that nothing of a clip comes through
        for parameter in network.requires_grad_(False).parameters():
            if not parameter.any():  # such as temporal projections, beyond which nothing would be seen
                parameter.normal_(std=0.1)
    alone = torch.cat([network(one[None]) for one in clips])
    close = {"rtol": 1e-4, "atol": 1e-4 * float(alone.abs().max())}

    @settings(max_examples=4)
    @given(st.lists(st.integers(0, MOST - 1), min_size=2, max_size=MOST))
    def in_any_company(numbers: list[int]) -> None:
        torch.testing.assert_close(network(clips[numbers]), alone[numbers], **close)

    in_any_company()
    assert (alone[0] - alone[1]).abs().max() > 10 * close["atol"], "the clips can be told apart"
