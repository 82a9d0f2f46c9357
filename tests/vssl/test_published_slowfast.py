"""Checkpoints in the key layout of FGKVMem's public code (card, section 10)."""

from pathlib import Path
from typing import Any

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


def test_a_classifier_of_the_original_is_tested_without_training(tmp_path: Path) -> None:
    """Test only: the file that the original writes is the input of a multiview stage."""
    backbone = SlowR18Config(width=2)
    arrays = golden("byol_step_mlp", "fgkvmem")
    state = {
        key.removeprefix("student_init."): torch.from_numpy(array).float()
        for key, array in arrays.items()
        if key.startswith("student_init.s")
    }
    dataset, _ = make_source(tmp_path, train=6, test=2)
    torch.manual_seed(0)
    state |= {"head.projection.weight": torch.randn(2, 16), "head.projection.bias": torch.zeros(2)}
    path = tmp_path / "ssl_eval_ucf_checkpoint_epoch_00200.pyth"
    torch.save({"epoch": 199, "model_state": state, "optimizer_state": {}, "cfg": "TASK: ssl_eval_ucf"}, path)
    header, tensors, report = read_weights(path)
    assert header["backbone"] == to_mapping(backbone)
    assert torch.equal(tensors["head.linear.weight"], state["head.projection.weight"])
    assert "finetune checkpoint of FGKVMem's public code" in report
    config = build(
        MultiviewConfig,
        {
            "backbone": to_mapping(backbone), "data": clips("rgb"), "test_view": {"num_clips": 2, "num_crops": 3},
            "test_crops": "centre", "runtime": {k: v for k, v in runtime().items() if k != "save_every_steps"},
        },
    )  # fmt: skip
    weights = Artifact(type="weights", path=path, digest=digest(path)[0], origin=path.name)
    folder = tmp_path / "multiview"
    folder.mkdir()
    figures = multiview.run(config, {"dataset": (dataset,), "weights": (weights,)}, Run(StageFolder(folder)))
    assert figures["test_videos"] == 2
    assert 0 <= figures["top1"] <= 100
