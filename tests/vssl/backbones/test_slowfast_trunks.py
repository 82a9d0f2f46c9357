"""The trunks of FGKVMem against the original networks, whose weights follow a rule (card, section 13, point 1)."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.video import r3d_18

from tests.goldens import FOLDER, golden
from vssl.backbones.backbone_config import R2Plus1DConfig, R3D18Config, SlowR18Config
from vssl.backbones.build import build_backbone
from vssl.backbones.slowfast_names import own_name
from vssl.nn.batchnorm import norm_layer
from vssl.randomness import seeded

CONFIGS: dict[str, Any] = {
    "r3d18": R3D18Config(last_stage="original"),
    "r3d18_standard_dilated_a": R3D18Config(),
    "r3d18_torchvision_like": R3D18Config(last_stage="strided"),
    "r2plus1d18": R2Plus1DConfig(),
    "slow_r18": SlowR18Config(),
}
RECORDED = sorted(path.stem.removeprefix("backbone_") for path in (FOLDER / "fgkvmem").glob("backbone_*.npz"))


def by_rule(shape: tuple[int, ...], shift: int) -> Tensor:
    """The rule in the files' `meta`: depends on the flat index and the number of dimensions alone."""
    wave = 43758.5453 * np.sin(12.9898 * np.arange(1, np.prod(shape) + 1) + 78.233 * len(shape) + shift)
    return torch.from_numpy(np.sqrt(12) * (wave - np.floor(wave) - 0.5)).view(shape)


def network(name: str, norm: Any = nn.BatchNorm3d) -> Any:
    return build_backbone(CONFIGS[name], norm)


def set_by_rule(trunk: nn.Module) -> None:
    with torch.no_grad():
        for module in trunk.modules():
            if isinstance(module, nn.Conv3d):
                shape = tuple(module.weight.shape)
                module.weight.copy_(by_rule(shape, 0) / np.sqrt(np.prod(shape[1:])))


def stages(trunk: Any, clips: Tensor) -> Iterator[Tensor]:
    """Feature maps after the stem and each stage."""
    if isinstance(trunk.stem, nn.Sequential):
        parts = [trunk.stem, trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4]
    else:
        parts = [lambda x: F.relu(trunk.stem_norm(trunk.stem(x))), *trunk.layers]
    for part in parts:
        clips = part(clips)
        yield clips


@pytest.mark.parametrize("name", RECORDED)
def test_point_01_backbone_golden(name: str) -> None:
    arrays = golden(f"backbone_{name}", "fgkvmem")
    trunk = network(name).double()
    set_by_rule(trunk)
    clips = by_rule(tuple(json.loads(str(arrays["meta"]))["input_shape"]), 11)
    np.testing.assert_allclose(clips.flatten()[:8], arrays["input_first8"], rtol=1e-9)
    for mode in ("train", "eval_after_one_train_pass"):  # in this order: the second reads what the first has counted
        with torch.no_grad():
            maps = list(stages(trunk.train(mode == "train"), clips))
        for number, found in enumerate(maps, 1):
            numbers = torch.stack([found.mean(), found.std(), found.abs().max()])
            np.testing.assert_allclose(numbers, arrays[f"{mode}.s{number}.mean_std_absmax"], rtol=1e-6)
            if mode == "train":
                assert list(found.shape) == arrays[f"{mode}.s{number}.shape"].tolist()
                means = found.mean(dim=(0, 2, 3, 4))
                np.testing.assert_allclose(means, arrays[f"{mode}.s{number}.channel_mean"], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(maps[-1].mean(dim=(2, 3, 4)), arrays[f"{mode}.pooled"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "parameters", "clip", "times", "sides"),
    [
        ("r3d18", 26_086_336, (16, 112, 112), (16, 16, 8, 4, 4), (56, 56, 28, 14, 7)),
        ("r3d18_standard_dilated_a", 33_166_272, (16, 112, 112), (16, 16, 8, 4, 4), (56, 56, 28, 14, 7)),
        ("r3d18_torchvision_like", 33_166_272, (16, 112, 112), (16, 16, 8, 4, 2), (56, 56, 28, 14, 7)),
        ("r2plus1d18", 14_365_303, (16, 112, 112), (16, 16, 8, 4, 2), (56, 56, 28, 14, 7)),
        ("slow_r18", 20_023_872, (8, 224, 224), (8, 8, 8, 8, 8), (56, 56, 28, 14, 7)),
    ],
)
def test_point_01_parameters_shapes_and_names(
    name: str, parameters: int, clip: tuple[int, ...], times: tuple[int, ...], sides: tuple[int, ...]
) -> None:
    """At the published clips, stage by stage; R(2+1)D is pooled after its last stage, by itself."""
    arrays = golden(f"backbone_{name}", "fgkvmem")
    with torch.device("meta"):
        trunk = network(name, norm_layer(None)).eval()
        shapes = [tuple(maps.shape) for maps in stages(trunk, torch.empty(2, 3, *clip))]
        features = trunk(torch.empty(2, 3, *clip)).shape
    assert shapes == [(2, c, t, s, s) for c, t, s in zip((64, 64, 128, 256, 512), times, sides)]
    assert features == ((2, 512, 1, 1, 1) if name == "r2plus1d18" else shapes[-1])
    assert sum(p.numel() for p in trunk.parameters()) == parameters == arrays["trunk_params"]
    original = dict(key.split("|") for key in arrays["keys"].tolist())
    renamed = {own_name(CONFIGS[name].name, key): shape for key, shape in original.items()}
    assert renamed == {key: str(tuple(tensor.shape)) for key, tensor in trunk.state_dict().items()}


def test_point_01_the_strided_network_is_torchvisions() -> None:
    with seeded(0):
        theirs = r3d_18().eval()
    ours = network("r3d18_torchvision_like").eval()
    ours.load_state_dict({name: t for name, t in theirs.state_dict().items() if not name.startswith("fc.")})
    clips = torch.randn(1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    theirs.avgpool = theirs.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(ours(clips).flatten(1), theirs(clips))


def test_initial_weights_are_he_normal_with_fan_out() -> None:
    with seeded(0):
        trunk = network("slow_r18")
    weight = trunk.layer4[0].conv1[0].weight  # (512, 256, 3, 3, 3): fan-out 512 * 27
    assert weight.std().item() == pytest.approx((2 / (512 * 27)) ** 0.5, rel=0.01)
    assert {(m.eps, m.momentum) for m in trunk.modules() if isinstance(m, nn.BatchNorm3d)} == {(1e-5, 0.1)}
