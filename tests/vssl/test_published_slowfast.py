"""Checkpoints in the key layout of FGKVMem's public code (card, section 10)."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from tests.goldens import golden
from tests.tiny_source import make_source
from tests.tiny_stages import clips, runtime
from vssl.artifacts import Artifact, StageFolder, digest
from vssl.backbones.backbone_config import R2Plus1DConfig, R3D18Config, SlowR18Config
from vssl.backbones.build import build_backbone
from vssl.config import build, to_mapping
from vssl.data.clips import ClipDataset
from vssl.data.loader import TestLoader
from vssl.data.views.view_makers import view_for_testing
from vssl.published_slowfast import import_slowfast, is_slowfast
from vssl.run import Run, StageError
from vssl.stages import multiview
from vssl.stages.multiview_config import MultiviewConfig
from vssl.weights import read_weights

TRUNKS: dict[str, Any] = {
    "r3d18": R3D18Config(last_stage="original"),
    "r3d18_standard_dilated_a": R3D18Config(),
    "r2plus1d18": R2Plus1DConfig(),
    "slow_r18": SlowR18Config(),
}


def of_shapes(keys: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.zeros(()).expand(shape) for name, shape in keys.items()}


def trunk_keys(name: str) -> dict[str, tuple[int, ...]]:
    pairs = (key.split("|") for key in golden(f"backbone_{name}", "fgkvmem")["keys"].tolist())
    return {key: tuple(int(n) for n in shape.strip("()").split(",") if n.strip()) for key, shape in pairs}


@pytest.mark.parametrize("name", sorted(TRUNKS))
def test_a_pretraining_gives_its_online_trunk_and_nothing_else(name: str) -> None:
    trunk = trunk_keys(name)
    state = {f"backbone.{key}": shape for key, shape in trunk.items()}
    state |= {f"backbone_hist.{key}": shape for key, shape in trunk.items()}
    head = golden("byol_step_memory", "fgkvmem")
    state |= {
        f"backbone.{key.removeprefix('student_init.')}": array.shape
        for key, array in head.items()
        if key.startswith("student_init.head.")
    }
    state |= {"ptr": (1,), "queue_x": (65536, 256), "iter": (1,), "knn_mem.memory": (9537, 256)}
    content = {"epoch": 399, "model_state": of_shapes(state), "optimizer_state": {}, "cfg": "TASK: ssl"}
    assert is_slowfast(content)
    found = import_slowfast(content)
    with torch.device("meta"):
        own = build_backbone(TRUNKS[name]).state_dict()
    assert {key: t.shape for key, t in found.tensors.items()} == {f"backbone.{k}": t.shape for k, t in own.items()}
    assert found.header()["backbone"] == to_mapping(TRUNKS[name])
    assert {key.partition(".")[0] for key in found.left_out} >= {"backbone_hist", "queue_x", "knn_mem"}
    assert "pretrain checkpoint of FGKVMem's public code after epoch 399" in found.report()


def test_another_trunk_of_pyslowfast_is_refused() -> None:
    bottleneck = {"s1.pathway0_stem.conv.weight": (64, 3, 1, 7, 7), "s2.pathway0_res0.branch2.c.weight": (256, 64)}
    with pytest.raises(StageError, match=r"none of the trunks r3d18, r21d, slow_r18"):
        import_slowfast({"model_state": of_shapes(bottleneck)})
    assert not is_slowfast({"state_dict": {"encoder_q.0.weight": torch.zeros(1)}})


@pytest.mark.parametrize("name", sorted(TRUNKS))
def test_a_classifier_gives_its_trunk_and_its_last_layer(name: str) -> None:
    """A fine-tuned file has no prefix; its last layer is called like the projector of a pretraining."""
    trunk = trunk_keys(name)
    state = trunk | {"head.projection.weight": (101, 512), "head.projection.bias": (101,)}
    found = import_slowfast({"epoch": 199, "model_state": of_shapes(state), "cfg": "TASK: ssl_eval_ucf"})
    assert len(found.tensors) == len(state)
    assert found.tensors["head.linear.weight"].shape == (101, 512)
    assert not found.left_out
    assert "finetune checkpoint of FGKVMem's public code after epoch 199" in found.report()


def test_a_classifier_of_the_original_is_tested_without_training(tmp_path: Path) -> None:
    """Test only: the file that the original writes is the input of a multiview stage, which trains nothing."""
    state = {
        key.removeprefix("student_init."): torch.from_numpy(array).float()
        for key, array in golden("byol_step_mlp", "fgkvmem").items()
        if key.startswith("student_init.s")
    }
    width = state["s1.pathway0_stem.conv.weight"].shape[0]
    config = SlowR18Config(width=width)
    generator = torch.Generator().manual_seed(0)
    state |= {"head.projection.weight": torch.randn(2, 8 * width, generator=generator)}
    state |= {"head.projection.bias": torch.randn(2, generator=generator)}
    path = tmp_path / "ssl_eval_ucf_checkpoint_epoch_00200.pyth"
    torch.save({"epoch": 199, "model_state": state, "optimizer_state": {}, "cfg": "TASK: ssl_eval_ucf"}, path)
    header, tensors, report = read_weights(path)
    assert header["backbone"] == to_mapping(config)
    assert "finetune checkpoint of FGKVMem's public code" in report

    dataset, _ = make_source(tmp_path, train=6, test=2)
    stage = build(
        MultiviewConfig,
        {
            "backbone": to_mapping(config), "data": clips("rgb"),
            "test_view": {"centre_crop": 0, "num_clips": 2, "num_crops": 3}, "test_crops": "centre",
            "runtime": {k: v for k, v in runtime().items() if k != "save_every_steps"},
        },
    )  # fmt: skip
    weights = Artifact(type="weights", path=path, digest=digest(path)[0], origin=path.name)
    tables = []
    for folder in (tmp_path / "once", tmp_path / "again"):
        folder.mkdir()
        figures = multiview.run(stage, {"dataset": (dataset,), "weights": (weights,)}, Run(StageFolder(folder)))
        table = pd.read_parquet(folder / "artifacts" / "predictions" / "predictions.parquet")
        tables.append(np.stack(table["probabilities"]))
        assert not list(folder.glob("checkpoints/*"))
    np.testing.assert_array_equal(*tables)

    network = build_backbone(config).eval()
    network.load_state_dict({name.removeprefix("backbone."): t for name, t in tensors.items() if "head." not in name})
    view = view_for_testing(stage.test_view, stage.data.crop_size)
    videos = ClipDataset(stage.data, "test", dataset=dataset, motion=None, seed=0, view=view)
    (batch,) = TestLoader(videos, 99)
    with torch.no_grad():
        pooled = network(batch["streams"]["rgb"]).mean(dim=(2, 3, 4))  # (12, 8 width): six views of each video
        logits = pooled @ state["head.projection.weight"].T + state["head.projection.bias"]
    expected = logits.softmax(dim=1).view(2, 6, 2).mean(dim=1)
    np.testing.assert_allclose(tables[0], expected, rtol=0, atol=1e-6)
    assert figures["top1"] == (expected.argmax(dim=1).numpy() == table["label"]).mean()
