"""TimeSformer and ViViT of the published sizes: parameters, names and numbers (card, section 11, points 1 and 7)."""

import json
import os

import numpy as np
import pytest
import torch

from tests.vtransformer_rule import FULL, by_rule, clip_by_rule
from tests.vtransformers import VARIANTS, config, own_weights
from vssl.backbones.build import build_backbone
from vssl.published_vtransformer import import_vtransformer

PARAMETERS = {
    ("timesformer", "divided_space_time"): 121_258_752,
    ("timesformer", "joint_space_time"): 85_804_800,
    ("timesformer", "space_only"): 85_798_656,
    ("vivit", "fact_encoder"): 114_746_880,
    ("vivit", "joint_space_time"): 86_394_624,
    ("vivit", "divided_space_time"): 121_848_576,
}
QUICK = ("timesformer_divided", "vivit_fact_encoder")  # one of each family; VSSL_GOLDEN asks for all


@pytest.mark.parametrize(("family", "attention"), VARIANTS)
def test_point_01_parameters_and_names(family: str, attention: str) -> None:
    with torch.device("meta"):
        network = build_backbone(config(family, attention))
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[family, attention]
    key = f"{family}_{attention.removesuffix('_space_time')}"
    if f"{key}/keys" in FULL:
        shapes = json.loads(str(FULL[f"{key}/keys"]))
        theirs = own_weights({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
        assert {n: t.shape for n, t in theirs.items()} == {n: t.shape for n, t in network.state_dict().items()}
        assert FULL[f"{key}/num_params"] == PARAMETERS[family, attention]


@pytest.mark.parametrize(
    "name", [key.removesuffix("/keys") for key in FULL if key.endswith("/keys") and "mvit" not in key]
)
def test_full_size_golden(name: str) -> None:
    """Its sizes are read from the file, as those of a released one are."""
    if name not in QUICK and "VSSL_GOLDEN" not in os.environ:
        pytest.skip("ten seconds of computing; VSSL_GOLDEN asks for it")
    released = import_vtransformer(by_rule(json.loads(str(FULL[f"{name}/keys"]))))
    assert released.backbone_config is not None
    knobs = {"num_frames": 8} | dict(released.backbone_config)  # attention over space alone has no time table
    with torch.device("meta"):
        network = build_backbone(config(knobs.pop("name"), knobs.pop("attention"), **knobs)).eval()
    network.load_state_dict({n.removeprefix("backbone."): t for n, t in released.tensors.items()}, assign=True)
    with torch.no_grad():
        found = network(clip_by_rule(knobs["num_frames"], knobs["image_size"])).flatten()
    np.testing.assert_allclose(found, FULL[f"{name}/out"], rtol=0, atol=2e-4)


def test_point_07_the_factorised_encoder_has_a_time_for_the_class_token_too() -> None:
    with torch.device("meta"):
        network = build_backbone(config("vivit", "fact_encoder"))
    assert network.time_embed.shape == (1, 9, 768)
    assert len(network.temporal_blocks) == 4
