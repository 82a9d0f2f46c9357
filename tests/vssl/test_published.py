"""Checkpoints of the public code: recognised by what they hold, read without running anything, and written back."""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.goldens import golden
from tests.tiny_source import make_source
from tests.tiny_stages import Stage
from vssl.artifacts import Artifact
from vssl.backbones.backbone_config import R2Plus1DConfig, S3DConfig, S3DGConfig
from vssl.backbones.build import build_backbone
from vssl.backbones.published_names import published_names
from vssl.config import build
from vssl.exchange import main
from vssl.nn.heads import ClassifierHead, Projector
from vssl.published import export_published, import_published, translated
from vssl.randomness import seeded
from vssl.run import StageError
from vssl.stages import retrieval
from vssl.stages.retrieval_config import RetrievalConfig
from vssl.weights import fill, load_weights, read_weights, write_weights

KEYS = golden("checkpoint_keys")
CONFIGS: dict[str, Any] = {"s3d": S3DConfig(), "s3dg": S3DGConfig(), "r21d": R2Plus1DConfig()}


def state_of(names: np.ndarray, shapes: np.ndarray) -> dict[str, Tensor]:
    """Tensors of these names and shapes that cost no memory."""
    sizes = [tuple(map(int, str(shape).split("x"))) if str(shape) else () for shape in shapes]
    return {str(name): torch.zeros(()).expand(size) for name, size in zip(names, sizes, strict=True)}


def shapes_of(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def expected(
    backbone: str, stage: str, *, classes: int = 101, prototypes: tuple[int, int] = (300, 128)
) -> dict[str, tuple[int, ...]]:
    """What this project's networks hold, by name."""
    with torch.device("meta"):
        network = build_backbone(CONFIGS[backbone])
        found = {f"backbone.{name}": tensor for name, tensor in network.state_dict().items()}
        if stage in ("single", "cross"):
            projector = Projector(network.num_features, prototypes[1]).state_dict()
            found |= {f"projector.{name}": tensor for name, tensor in projector.items()}
            found["prototypes.weight"] = torch.empty(prototypes)
        else:
            probe = stage == "linear"
            head = ClassifierHead(network.num_features, classes, l2_normalise=probe, batch_norm=probe).state_dict()
            found |= {f"head.{name}": tensor for name, tensor in head.items()}
    return shapes_of(found)


def backbone_of(stage: str) -> str:
    """The backbone whose recorded names are those of a recorded checkpoint."""
    prefix = "encoder_q.0." if stage in ("single", "cross") else "backbone."
    names = {str(key).removeprefix(prefix) for key in KEYS[f"{stage}_keys"] if str(key).startswith(prefix)}
    return next(name for name in CONFIGS if set(map(str, golden(f"backbone_{name}")["keys"])) == names)


def recorded(stage: str) -> dict[str, tuple[int, ...]]:
    """What this project's networks hold at the sizes of a recorded checkpoint."""
    shapes = shapes_of(state_of(KEYS[f"{stage}_keys"], KEYS[f"{stage}_shapes"]))
    sizes: dict[str, Any] = {}
    if "prototypes.weight" in shapes:
        sizes["prototypes"] = shapes["prototypes.weight"]
    for name in ("final_fc.0.weight", "final_fc.1.weight"):
        if name in shapes:
            sizes["classes"] = shapes[name][0]
    return expected(backbone_of(stage), stage, **sizes)


STAGES = [key.removesuffix("_keys") for key in KEYS if key.endswith("_keys")]


@pytest.mark.parametrize("stage", STAGES)
def test_point_09_every_kind_of_file_is_recognised_by_its_names(stage: str) -> None:
    state = state_of(KEYS[f"{stage}_keys"], KEYS[f"{stage}_shapes"])
    found = import_published({"state_dict": state, "epoch": 99})
    assert (found.stage, found.backbone, found.epoch) == (stage, backbone_of(stage), 99)
    assert shapes_of(found.tensors) == recorded(stage), "nothing is missing, nothing is unexpected"
    assert len(found.tensors) + len(found.left_out) + found.doubles == len(state)
    assert {name.partition(".")[0] for name in found.left_out} == ({"second"} if stage == "cross" else set())
    assert f"a {stage} checkpoint" in found.report()
    assert "after epoch 99" in found.report()
    assert (f"left out {len(found.left_out)} second.*" in found.report()) == (stage == "cross")


@pytest.mark.parametrize("kept", ["named", "blocks"])
def test_point_09_either_name_family_is_enough(kept: str) -> None:
    state = state_of(KEYS["single_keys"], KEYS["single_shapes"])
    state = {
        name: t for name, t in state.items() if ("block" in name) == (kept == "blocks") or "encoder_q.0" not in name
    }
    found = import_published(state)
    assert found.doubles == 0
    assert shapes_of(found.tensors) == recorded("single")


@pytest.mark.parametrize("backbone", sorted(CONFIGS))
def test_point_09_the_other_backbones_too(backbone: str) -> None:
    arrays = golden(f"backbone_{backbone}")
    names = np.array([f"module.encoder_q.0.{name}" for name in arrays["keys"]])
    found = import_published(state_of(names, arrays["shapes"]))
    assert found.backbone == backbone
    with torch.device("meta"):
        network = build_backbone(CONFIGS[backbone]).state_dict()
    assert shapes_of(found.tensors) == {f"backbone.{name}": tuple(tensor.shape) for name, tensor in network.items()}
    theirs = {one for name in network for one in published_names(backbone, name)}
    assert theirs == set(map(str, arrays["keys"])), "and back"


def test_point_09_initialisation_takes_what_the_original_takes() -> None:
    """The original's own maps from a pretraining file to a cross-stream network and to a classifier."""
    single, backbone = recorded("single"), backbone_of("single")
    expected_backbone = {name for name in single if name.startswith("backbone.")}
    for source, target in KEYS["cross_init_from_first"]:
        assert source == target
        assert translated(source, "encoder_q.0.", backbone) in single
    for source, target in KEYS["eval_init_from_pretrain"]:
        found = translated(source, "encoder_q.0.", backbone)
        assert found == translated(target, "backbone.", backbone)
        assert found in expected_backbone
    unused = {translated(name, "encoder_q.0.", backbone) for name in KEYS["eval_unused_from_pretrain"]}
    assert not unused & expected_backbone
    for stage in ("linear", "finetune"):
        fresh = {translated(name, "backbone.", backbone) for name in KEYS[f"{stage}_not_loaded"]}
        assert fresh == {name for name in recorded(stage) if name.startswith("head.")}


@pytest.fixture(scope="module")
def trained() -> dict[str, Tensor]:
    """Weights of a pretraining with random values everywhere."""
    generator = torch.Generator().manual_seed(0)
    shapes = expected("s3d", "single")
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


HEADER = {"kind": "pretrain", "stage": "x", "method": "vicc", "backbone": {"name": "s3d"}, "modality": "rgb"}


def artifact(path: Path) -> Artifact:
    return Artifact(type="weights", path=path, digest="", origin=f"file:{path}")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_published_file_in_either_format_fills_a_network(
    trained: dict[str, Tensor], tmp_path: Path, zipped: bool
) -> None:
    content = export_published(HEADER, trained)
    if backbone_of("single") == "s3d":
        assert set(content["state_dict"]) == set(map(str, KEYS["single_keys"]))
    content |= {"best_loss": 0.0, "iteration": 7, "optimizer": {"state": {}, "param_groups": [{"lr": 0.6}]}}
    path = tmp_path / "model.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)  # torch 1.4, of the public code, wrote no zip
    weights = load_weights(artifact(path), backbone={"name": "s3d"})
    assert weights.header["modality"] is None
    assert "a single checkpoint" in weights.report
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in trained.items())
    network = build_backbone(S3DConfig())
    fill(network, weights.part("backbone"), what="the file")
    with pytest.raises(StageError, match=r"belong to the backbone \{'name': 's3d'\}.*'r21d'"):
        load_weights(artifact(path), backbone={"name": "r21d"})


def test_a_published_file_is_evaluated_by_a_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cross-stream checkpoint as `weights: file:/...`: its main stream is taken, and another backbone is refused."""
    with seeded(0):
        network = build_backbone(S3DConfig())
    tensors = {f"backbone.{name}": tensor for name, tensor in network.state_dict().items()}
    content = export_published(HEADER, tensors)
    content["state_dict"]["second.0.Conv_1a.conv1.weight"] = torch.zeros(64, 3, 1, 7, 7)
    torch.save(content, tmp_path / "rgb.pth.tar", _use_new_zipfile_serialization=False)
    dataset, _ = make_source(tmp_path, train=4, test=2)
    inputs = {"dataset": (dataset,), "weights": (artifact(tmp_path / "rgb.pth.tar"),)}
    given: dict[str, Any] = {
        "data": {"dataset": {"name": "tiny"}, "num_frames": 7, "crop_size": 32},
        "test_view": {"centre_crop": 0},
        "runtime": {"threads": 1, "device": "cpu"},
    }
    stage = Stage(retrieval.run, build(RetrievalConfig, given), inputs, "retrieval")
    assert stage.execute(tmp_path)["query_videos"] == 2
    said = capsys.readouterr().out
    assert "a cross checkpoint of ViCC's public code after epoch 0, backbone s3d: took 462 backbone" in said
    assert "left out 1 second.*" in said
    other = Stage(retrieval.run, build(RetrievalConfig, given | {"backbone": {"name": "r21d"}}), inputs, "other")
    with pytest.raises(StageError, match="set the same backbone in both"):
        other.execute(tmp_path)


def test_two_values_under_two_names_are_refused(trained: dict[str, Tensor]) -> None:
    state = dict(export_published(HEADER, trained)["state_dict"])
    state["encoder_q.0.block5.2.branch0.0.bn.bias"] = torch.full((384,), 9.0)
    with pytest.raises(StageError, match=r"block5\.2\.branch0.* hold different values"):
        import_published(state)


class Mischief:
    """What an unpickler would run."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["MISCHIEF"],)


def test_a_checkpoint_that_holds_more_is_read_and_converted_without_running_it(
    trained: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MISCHIEF", str(tmp_path / "ran"))
    content = export_published(HEADER, trained)
    content |= {"args": argparse.Namespace(lr=0.6), "best_acc": np.float64(0.5), "more": [Mischief()]}
    path, out = tmp_path / "model.pth.tar", tmp_path / "weights.pt"
    for zipped in (True, False):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        assert read_weights(path)[1].keys() == trained.keys()
        assert main(["import", str(path), str(out), "--modality", "flow"]) == 0
        assert not (tmp_path / "ran").exists()
        header, tensors, _ = read_weights(out)
        assert (header["modality"], header["kind"]) == ("flow", "single")
        assert all(torch.equal(tensors[name], tensor) for name, tensor in trained.items())
    assert main(["show", str(out)]) == 0
    assert "modality flow" in capsys.readouterr().out
    torch.save({"header": "{}", "tensors": {}, "more": Mischief()}, path)
    with pytest.raises(StageError, match="cannot be read as weights; expected a file of a pretrain"):
        read_weights(path)
    assert not (tmp_path / "ran").exists()
    path.write_bytes(b"no checkpoint")
    assert main(["import", str(path), str(out)]) == 2
    assert "no file of torch.save" in capsys.readouterr().err


def test_plain_weights_load_into_torchvision(trained: dict[str, Tensor], tmp_path: Path) -> None:
    from torchvision.models.video import s3d

    write_weights(tmp_path / "w.pt", HEADER, trained)
    assert main(["export", str(tmp_path / "w.pt"), str(tmp_path / "plain.pt")]) == 0
    plain = torch.load(tmp_path / "plain.pt", weights_only=True)
    found = s3d().load_state_dict(plain, strict=False)
    assert not found.unexpected_keys
    assert {name.partition(".")[0] for name in found.missing_keys} == {"classifier"}
    assert main(["export", str(tmp_path / "w.pt"), str(tmp_path / "vicc.pth.tar"), "--layout", "vicc"]) == 0
    again = load_weights(artifact(tmp_path / "vicc.pth.tar"))
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in trained.items())


def test_what_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    torch.save({"state_dict": {"encoder_q.0.stem.weight": torch.zeros(1)}}, tmp_path / "x.pt")
    with pytest.raises(StageError, match=r"not known: .* encoder_q\.0\.stem\.weight; known: s3d, s3dg, r21d"):
        read_weights(tmp_path / "x.pt")
    with pytest.raises(StageError, match="no checkpoint of ViCC's public code: its names begin with layer1"):
        import_published({"layer1.weight": torch.zeros(1)})
    with pytest.raises(StageError, match="has no backbone tiny"):
        export_published({"backbone": {"name": "tiny"}}, {"backbone.features.0.weight": torch.zeros(1)})
