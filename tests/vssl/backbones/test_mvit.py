"""MaskFeat's MViT of torchvision's blocks against the original's numbers (card, section 11, points 1 and 12)."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from tests.vtransformer_rule import FULL, by_rule, clip_by_rule
from tests.vtransformers import backbone_part, tiny_of_file
from vssl.backbones.mvit import MViTB
from vssl.config import ConfigError
from vssl.published_vtransformer import import_vtransformer
from vssl.randomness import seeded


def test_tiny_network_golden() -> None:
    network, _, arrays = tiny_of_file()
    clips = arrays["x"].transpose(1, 2)
    torch.testing.assert_close(network.encoded(clips), arrays["features_unmasked"], rtol=0, atol=1e-9)
    torch.testing.assert_close(network(clips).flatten(1), arrays["features_unmasked"][:, 0], rtol=0, atol=1e-9)


def test_point_01_parameters_and_names() -> None:
    with torch.device("meta"):
        network = MViTB(96, 16, 224)
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == 36_257_856 + 42_432  # trunk and patches
    assert FULL["maskfeat_mvit_b/num_params"] == parameters + 166_104 + 96  # decoder and mask token
    shapes = json.loads(str(FULL["maskfeat_mvit_b/keys"]))
    theirs = backbone_part({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    assert {key: t.shape for key, t in theirs.items()} == {key: t.shape for key, t in network.state_dict().items()}


def test_full_size_golden() -> None:
    state = by_rule(json.loads(str(FULL["maskfeat_mvit_b/keys"])))
    released = import_vtransformer(state)
    assert released.backbone_config is not None
    sizes = [released.backbone_config[key] for key in ("width", "num_frames", "image_size")]
    with torch.device("meta"):
        network = MViTB(*sizes).eval()
    network.load_state_dict(backbone_part(state), assign=True)
    with torch.no_grad():
        tokens = network.encoded(clip_by_rule(*sizes[1:]))
        decoded = torch.nn.functional.linear(tokens, state["decoder_pred.weight"], state["decoder_pred.bias"])
    assert tokens.shape[1] == FULL["maskfeat_mvit_b/num_tokens"]
    np.testing.assert_allclose(tokens[0, 0], FULL["maskfeat_mvit_b/out"], rtol=0, atol=2e-4)
    first = FULL["maskfeat_mvit_b/decoder_first4"]
    np.testing.assert_allclose(decoded[0, 1 : 1 + len(first)], first, rtol=0, atol=2e-4)


def test_initial_weights() -> None:
    with seeded(0):
        network = MViTB(32, 4, 32).requires_grad_(False)
    bound = (6 / (32 + 3 * 3 * 7 * 7)) ** 0.5  # of a matrix of 32 x 441
    assert network.conv_proj.weight.abs().max() <= bound
    assert network.conv_proj.weight.std() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert network.pos_encoding.spatial_pos.std() == pytest.approx(0.02, rel=0.1)
    assert network.blocks[5].attn.qkv.weight.std() == pytest.approx(0.02, rel=0.05)
    eps = {m.eps for n, m in network.named_modules() if isinstance(m, torch.nn.LayerNorm) and "pool_" in n}
    others = {m.eps for n, m in network.named_modules() if isinstance(m, torch.nn.LayerNorm) and "pool_" not in n}
    assert (eps, others) == ({1e-5}, {1e-6})


def test_tables_are_resized_for_other_clips() -> None:
    with seeded(0):
        trained, larger = MViTB(4, 4, 32).double().eval(), MViTB(4, 8, 64).double().eval()
    larger.load_state_dict(larger.adapted(trained.state_dict()))
    assert larger(torch.zeros(1, 3, 8, 64, 64).double()).shape == (1, 32, 1, 1, 1)
    assert all(torch.equal(t, trained.state_dict()[n]) for n, t in trained.adapted(trained.state_dict()).items())


def test_clips_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="clips are of 4x48x48 and the network's position tables of 4x32x32"):
        MViTB(4, 4, 32)(torch.zeros(1, 3, 4, 48, 48))


def layers(network: Any) -> list[int]:
    return [network.layer_of(name) for name, _ in network.named_parameters()]


def test_point_12_layers_run_from_the_patches_to_the_last_norm() -> None:
    found = layers(MViTB(4, 4, 32))
    assert sorted(set(found)) == list(range(18))
