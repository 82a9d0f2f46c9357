"""Files in the layout of VideoTransformer-pytorch: read whole, or refused with what does not fit (card, section 8)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.goldens import golden, golden_tensors
from tests.vtransformers import TIMESFORMERS, VIVITS, from_meta
from vssl.artifacts import Artifact
from vssl.backbones.mvit import MViTB
from vssl.backbones.vit_video import VideoTransformer
from vssl.run import StageError
from vssl.weights import fill, load_weights

NETWORKS = [
    *(f"03_timesformer_{kind}" for kind in TIMESFORMERS),
    *(f"06_vivit_{kind}" for kind in VIVITS),
    "13_maskfeat_mvit_tiny",
]
EXPECTED = {"03": "out_cls", "06": "out_per_sample", "13": "features_unmasked"}


def network_of(name: str) -> VideoTransformer | MViTB:
    """Of a golden file, with weights of its own."""
    meta = json.loads(str(golden(name, "vtransformer")["meta"]))
    if "patch_embed_dim" in meta:
        return MViTB(meta["patch_embed_dim"], meta["num_frames"], meta["img_size"]).double().eval()
    more = {"temporal_depth": meta["temporal_layers"]} if "temporal_layers" in meta else {}
    return from_meta(meta, **more).eval()


def state_of(name: str) -> dict[str, Tensor]:
    """A golden file's network as Lightning saves it."""
    arrays = golden_tensors(name, "vtransformer")
    return {f"model.{key.removeprefix('w/')}": t.double() for key, t in arrays.items() if key.startswith("w/")}


def read_into(network: VideoTransformer | MViTB, content: Any, path: Path) -> None:
    """What a stage does with a file that is bound to it. Lightning's older files name callbacks by their classes."""
    torch.save(content | {"callbacks": {Path: {"monitor": None}}}, path)
    weights = load_weights(Artifact(type="weights", path=path, digest="", origin="file:released"))
    fill(network, network.adapted(weights.part("backbone")), what="released")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_is_read_whole_and_the_network_is_the_originals(name: str, tmp_path: Path) -> None:
    arrays = {key: t.double() for key, t in golden_tensors(name, "vtransformer").items()}
    network, head = network_of(name), {f"cls_head.cls_head.{part}": torch.zeros(3) for part in ("weight", "bias")}
    read_into(network, {"state_dict": state_of(name) | head, "epoch": 14, "global_step": 7}, tmp_path / "released.pth")
    expected = arrays[EXPECTED[name[:2]]]
    found = network(arrays["x"].transpose(1, 2)).flatten(1)
    torch.testing.assert_close(found, expected if expected.ndim == 2 else expected[:, 0], rtol=0, atol=1e-9)


def without_a_layer(state: dict[str, Tensor]) -> None:
    del state["model.transformer_layers.layers.1.ffns.0.layers.1.weight"]


def with_another_layer(state: dict[str, Tensor]) -> None:
    state["model.transformer_layers.layers.0.ffns.0.layers.4.weight"] = torch.zeros(2)


def with_another_norm(state: dict[str, Tensor]) -> None:
    state["model.norm.weight"] = torch.zeros(7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_a_layer, r"1 missing: blocks\.1\.ffn\.fc2\.weight"),
        (with_another_layer, r"1 unexpected: blocks\.0\.ffns\.0\.layers\.4\.weight"),
        (with_another_norm, r"1 of another shape: norm\.weight is \(7,\) instead of \(\d+,\)"),
    ],
)
def test_a_file_that_does_not_fit_fails_with_the_list(
    change: Callable[[dict[str, Tensor]], None], message: str, tmp_path: Path
) -> None:
    name = "03_timesformer_divided_space_time"
    state, network = state_of(name), network_of(name)
    change(state)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(StageError, match=rf"released does not fit VideoTransformer: {message}"):
        read_into(network, {"state_dict": state}, tmp_path / "wrong.pth")
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
