"""S3D against the original network, weight for weight by rule."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.goldens import golden
from vssl.backbones.backbone_config import S3DConfig, TinyConfig
from vssl.backbones.build import build_backbone
from vssl.nn.batchnorm import norm_layer
from vssl.randomness import seeded

STAGE_ENDS = (0, 3, 6, 12, 15)  # layers of torchvision's sequence that end the paper's blocks 1 to 5


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
    for index, layer in enumerate(network.features):
        clips = layer(clips)
        if index in STAGE_ENDS:
            yield clips


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_point_08_backbone_s3d_golden(mode: str) -> None:
    arrays = golden("backbone_s3d")
    network = build_backbone(S3DConfig()).train(mode == "train")
    set_by_rule(network, float(arrays["gain"]))
    clips = hashed(tuple(arrays["input_shape"])) * float(arrays["input_scale"])
    with torch.no_grad():
        maps = list(stages(network, clips))
    assert [list(m.shape) for m in maps] == arrays[f"{mode}_stage_shapes"].tolist()
    for found, expected in zip(maps, arrays[f"{mode}_stage_stats"]):
        numbers = [found.mean(), found.std(), found.abs().max(), found.min()]
        np.testing.assert_allclose([n.item() for n in numbers], expected, rtol=1e-3, atol=1e-3 * expected[2])
    expected = torch.from_numpy(arrays[f"{mode}_out"])
    torch.testing.assert_close(maps[-1], expected, rtol=0, atol=1e-3 * expected.abs().max().item())


def test_point_08_s3d_parameters_feature_map_and_original_shapes() -> None:
    arrays = golden("backbone_s3d")
    with torch.device("meta"):
        network = build_backbone(S3DConfig(), norm_layer(48)).eval()
        assert network(torch.empty(1, 3, 32, 128, 128)).shape == (1, 1024, 4, 4, 4)
    assert sum(p.numel() for p in network.parameters()) == 7_910_048 == arrays["n_params"]
    assert network.num_features == 1024 == arrays["feature_size"]
    original = {str(key): str(shape) for key, shape in zip(arrays["keys"], arrays["shapes"])}
    once = sorted(shape for key, shape in original.items() if key.startswith("block"))
    assert sorted("x".join(map(str, t.shape)) for t in network.state_dict().values()) == once


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
