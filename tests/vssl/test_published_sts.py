"""Checkpoints in the key layout of STS's public code (card, section 10, and section 13, points 6 and 7)."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.goldens import golden, golden_tensors
from tests.sts_networks import CONFIGS, Classifier, case_of, empty
from tests.sts_rule import clip, set_by_rule
from vssl.backbones.backbone_config import of_weights
from vssl.config import to_mapping
from vssl.nn.initial import spread_taps
from vssl.published_sts import import_sts, is_sts
from vssl.run import StageError
from vssl.weights import read_weights


def state_of(name: str, file: str) -> dict[str, Tensor]:
    """A file's tensors without their values."""
    arrays = golden(file, "sts")
    case = case_of(name, arrays)
    pairs = zip(arrays[f"{case}_keys"].tolist(), arrays[f"{case}_shapes"].tolist(), strict=True)
    return {key: torch.zeros(()).expand([int(n) for n in shape.split("x") if n]) for key, shape in pairs}


@pytest.mark.parametrize("file", ["backbones_pretrain", "backbones_finetune"])
@pytest.mark.parametrize("name", CONFIGS)
def test_point_06_every_name_of_a_published_file_is_one_here(name: str, file: str) -> None:
    state, images = state_of(name, file), file == "backbones_pretrain"
    assert is_sts({"state_dict": state})
    found = import_sts({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}, "epoch": 299})
    heads = [key for key in state if key.startswith(("classifier.", "cls_head.fc_cls.", "cls_head.fc2."))]
    classes = state[heads[0]].shape[0]
    with torch.device("meta"):
        own = Classifier(name, classes, images=images).state_dict()
    assert {key: t.shape for key, t in found.tensors.items()} == {key: t.shape for key, t in own.items()}
    assert found.header()["backbone"] == of_weights(to_mapping(CONFIGS[name]))
    assert found.left_out == []
    assert found.report().startswith(
        f"a {'image_pretrain' if images else 'finetune'} checkpoint of STS's public code after epoch 299"
    )


def test_columns_of_a_slowfast_classifier_of_images_are_put_in_order(tmp_path: Path) -> None:
    name, arrays = "slowfast50_4x16", golden("backbones_pretrain", "sts")
    case = case_of(name, arrays)
    network = empty(name, arrays[f"{case}_logits"].shape[-1], images=True)
    set_by_rule(network)
    names = {f"backbone.{key}": f"get_feature.{key}" for key in network.backbone.state_dict()}
    names |= {"head.linear.weight": "classifier.weight", "head.linear.bias": "classifier.bias"}
    state = {names[key]: tensor for key, tensor in network.state_dict().items()}  # the rule's columns are the file's
    more = {"optimizer": {"state": {}}, "scaler": {"scale": 512.0}, "args": Namespace(lr=5e-3), "metric": 79.9}
    torch.save({"epoch": 299, "arch": name, "state_dict": state} | more, tmp_path / "last.pth.tar")  # as it is written
    header, tensors, report = read_weights(tmp_path / "last.pth.tar")
    assert header["backbone"]["name"] == name
    assert "after epoch 299" in report
    assert "head tensors; left out nothing" in report
    network.load_state_dict(tensors)
    with torch.no_grad():
        logits = network(clip(tuple(arrays["input_shape"].tolist()))[:, :, None])
    expected = torch.from_numpy(arrays[f"{case}_logits"])
    torch.testing.assert_close(logits.squeeze(), expected.squeeze(), rtol=1e-6, atol=1e-9)


def test_point_07_spread_golden() -> None:
    arrays = golden("checkpoint", "sts")
    tensors = golden_tensors("checkpoint", "sts")
    lengths = set()
    for number, key in enumerate(arrays["in_keys"].tolist()):
        before, after = tensors[f"in_{number}"], tensors[f"inflate_out_{number}"]
        spread = spread_taps(before) if key.startswith("get_feature.") else before
        torch.testing.assert_close(spread, after, atol=1e-12, rtol=0)
        if before.ndim == 5:
            lengths.add(before.shape[2])
            assert torch.equal(before, after) == (before.shape[2] != 3)
    assert {1, 3} < lengths


def test_point_06_names_of_the_checkpoint_golden() -> None:
    arrays = golden("checkpoint", "sts")
    tensors = golden_tensors("checkpoint", "sts")
    state: dict[str, Any] = {key: tensors[f"in_{n}"] for n, key in enumerate(arrays["in_keys"].tolist())}
    found = import_sts({"state_dict": state})
    theirs = {"head.linear": "cls_head.fc_cls", "head.hidden": "cls_head.fc1"}
    renamed = []
    for key in found.tensors:
        layer, _, leaf = key.rpartition(".")
        renamed.append(f"{theirs[layer]}.{leaf}" if layer in theirs else key)
    assert sorted(renamed) == sorted(arrays["noinflate_out_keys"].tolist())


def test_a_backbone_that_is_none_of_the_six_is_refused() -> None:
    with pytest.raises(StageError, match="none of the backbones csn50"):
        import_sts({"get_feature.patch_embed.weight": torch.zeros(1)})
    assert not is_sts({"backbone.s1.pathway0_stem.conv.weight": torch.zeros(1)})
    assert not is_sts([])
