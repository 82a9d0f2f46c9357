"""The backbones against the original networks, weight for weight by rule."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.full_size import AMP, SHAPE
from tests.goldens import golden
from vssl.backbones.backbone_config import R2Plus1DConfig, S3DConfig, S3DGConfig, TinyConfig
from vssl.backbones.build import build_backbone
from vssl.nn.batchnorm import norm_layer
from vssl.randomness import seeded

STAGE_ENDS = (0, 3, 6, 12, 15)  # layers of torchvision's sequence that end the paper's blocks 1 to 5
CONFIGS: dict[str, Any] = {"s3d": S3DConfig(), "s3dg": S3DGConfig(), "r21d": R2Plus1DConfig()}


def hashed(shape: tuple[int, ...]) -> Tensor:
    """Numbers in [-1, 1) that depend on the flat index alone."""
    v = np.arange(np.prod(shape), dtype=np.uint32) * np.uint32(2654435761)
    v ^= v >> np.uint32(16)
    v *= np.uint32(2246822519)
    v ^= v >> np.uint32(13)
    return torch.from_numpy((2 * (v.astype(np.float64) / 2**32) - 1).astype(np.float32).reshape(shape))


def set_by_rule(network: nn.Module, gain: float) -> None:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            shape = tuple(parameter.shape)
            if len(shape) > 1:
                parameter.copy_(hashed(shape) * gain * np.sqrt(3 / np.prod(shape[1:])))
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def stages(network: nn.Module, clips: Tensor) -> Iterator[Tensor]:
    """The feature maps that the golden files describe, five of each network."""
    if hasattr(network, "stem"):
        clips = F.relu(network.stem_norm(network.stem(clips)))
        yield clips
        for layer in network.layers:
            clips = layer(clips)
            yield clips
        return
    for index, layer in enumerate(network.features):
        clips = layer(clips)
        if index in STAGE_ENDS:
            yield clips


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_point_08_backbone_golden(name: str, mode: str) -> None:
    arrays = golden(f"backbone_{name}")
    network = build_backbone(CONFIGS[name]).train(mode == "train")
    set_by_rule(network, float(arrays["gain"]))
    clips = hashed(tuple(arrays["input_shape"])) * float(arrays["input_scale"])
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with torch.no_grad():
        maps = list(stages(network, clips))
        network.load_state_dict(state)  # running statistics, in training
        output = network(clips)
    assert [list(m.shape) for m in maps] == arrays[f"{mode}_stage_shapes"].tolist()
    for found, expected in zip(maps, arrays[f"{mode}_stage_stats"], strict=True):
        numbers = [found.mean(), found.std(), found.abs().max(), found.min()]
        np.testing.assert_allclose([n.item() for n in numbers], expected, rtol=1e-3, atol=1e-3 * expected[2])
    expected = torch.from_numpy(arrays[f"{mode}_out"])
    differences = (output - expected).abs() / expected.abs().max()
    if differences.max() < 1e-3:
        return
    # Sums before a gate of S3D-G reach thousands, so that some gates tip over within float32's rounding. How far that
    # goes this network says itself, in float64.
    assert name == "s3dg"
    with torch.no_grad():
        network.load_state_dict(state)
        exact = network.double()(clips.double())
    rounding = ((output - exact).abs() / expected.abs().max()).max()
    assert differences.max() < 3 * rounding
    assert (differences > 1e-3).double().mean() < 0.005


@pytest.mark.parametrize(
    ("name", "parameters", "features", "size"),
    [("s3d", 7_910_048, 1024, 4), ("s3dg", 9_098_000, 1024, 4), ("r21d", 14_365_303, 512, 1)],
)
def test_point_08_parameters_feature_map_and_original_shapes(
    name: str, parameters: int, features: int, size: int
) -> None:
    arrays = golden(f"backbone_{name}")
    with torch.device("meta"):
        network = build_backbone(CONFIGS[name], norm_layer(48)).eval()
        assert network(torch.empty(1, 3, 32, 128, 128)).shape == (1, features, size, size, size)
    assert sum(p.numel() for p in network.parameters()) == parameters == arrays["n_params"]
    assert network.num_features == features == arrays["feature_size"]
    original = {str(key): str(shape) for key, shape in zip(arrays["keys"], arrays["shapes"])}
    once = sorted(shape for key, shape in original.items() if key.startswith("block") or name == "r21d")
    assert sorted("x".join(map(str, t.shape)) for t in network.state_dict().values()) == once


@pytest.mark.parametrize("name", ["s3dg", "r21d"])
def test_a_full_size_clip_goes_forward_and_back(name: str) -> None:
    """In bfloat16 where the processor has it. S3D steps at this size, see methods/test_vicc_full_size.py."""
    with seeded(0):
        network = build_backbone(CONFIGS[name])
    clips = hashed((1, *SHAPE))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=AMP == "bf16"):
        features = network(clips).float().mean(dim=(2, 3, 4))
    features.square().sum().backward()
    assert features.shape == (1, network.num_features)
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_gates_scale_branches_by_what_they_hold() -> None:
    with seeded(0):
        plain, gated = build_backbone(S3DConfig()).eval(), build_backbone(S3DGConfig()).eval()
    missing = gated.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert len(missing.missing_keys) == 9 * 4 * 2
    with torch.no_grad():
        for key, parameter in gated.named_parameters():
            if ".gates." in key:
                parameter.fill_(0.0 if key.endswith("weight") else 30.0)  # sigmoid of 30 is 1: every gate is open
        clips = hashed((1, 3, 16, 64, 64))
        torch.testing.assert_close(gated(clips), plain(clips))


def test_s3d_starts_from_small_normal_weights_and_batchnorm_defaults() -> None:
    with seeded(0):
        network = build_backbone(S3DConfig())
    kernels = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Conv3d)])
    assert kernels.std().item() == pytest.approx(0.01, rel=0.01)
    assert {(m.eps, m.momentum) for m in network.modules() if isinstance(m, nn.BatchNorm3d)} == {(1e-5, 0.1)}


def test_tiny_shapes_and_seeded_weights() -> None:
    networks = []
    for _ in range(2):
        with seeded(4, "weights"):
            networks.append(build_backbone(TinyConfig(width=4)))
        torch.rand(1)
    assert networks[0](torch.rand(2, 3, 8, 32, 48)).shape == (2, 16, 2, 4, 6)
    assert networks[0].num_features == 16
    for one, other in zip(networks[0].parameters(), networks[1].parameters()):
        assert torch.equal(one, other)
