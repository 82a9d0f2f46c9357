"""Checkpoints in the key layout of CARL's public code (card, section 9): which tensor becomes which, and what fails."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import carl_names
from tests.goldens import golden
from tests.vssl.test_published import Mischief
from vssl.artifacts import Artifact, StageFolder
from vssl.backbones.backbone_config import FrameResNet50Config
from vssl.config import build
from vssl.exchange import main
from vssl.methods.carl import CARL, FrameEncoder
from vssl.methods.carl_config import CARLConfig
from vssl.published_carl import import_carl, is_carl
from vssl.run import Run, StageError
from vssl.stages.alignment import _encoder
from vssl.stages.alignment_config import AlignmentConfig
from vssl.stages.initial import initialise
from vssl.weights import read_weights

ARRAYS = golden("full_model", "carl")
KEYS = json.loads(str(ARRAYS["keys_json"]))  # original name, canonical name, shape
LAYERS = int(ARRAYS["num_layers"])


class Settings(dict[str, Any]):
    """As the original's, which is a dictionary with attributes, of a class of another package."""


def method() -> CARL:
    config = build(CARLConfig, {"embedder": {"name": "transformer", "layers": LAYERS}})
    return CARL.from_config(config, FrameResNet50Config(), global_batch_size=1, seed=0)


def numbered(names: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors of these names and shapes that cost no memory, each of one number of its own."""
    return {name: torch.full((), float(n)).expand(shape) for n, (name, shape) in enumerate(names.items())}


def of_transformer() -> dict[str, Tensor]:
    """The names of the golden file, and the counters that it leaves out."""
    state = numbered({name: shape for name, _, shape in KEYS})
    counters = [name.replace("running_mean", "num_batches_tracked") for name in state if name.endswith("running_mean")]
    return state | {name: torch.tensor(7) for name in counters}


def trunk(*, layer4: str) -> dict[str, Any]:
    """Shapes of a ResNet-50 under the original's names, its layer4 under `backbone.7.` or `res_finetune.`."""
    parts = {"conv1": "backbone.0", "bn1": "backbone.1", "layer1": "backbone.4", "layer2": "backbone.5"}
    parts |= {"layer3": "backbone.6", "layer4": layer4}
    with torch.device("meta"):
        own = method().backbone.state_dict()
    names = ((name.partition("."), tensor.shape) for name, tensor in own.items())
    return {f"{parts[top]}.{rest}": shape for (top, _, rest), shape in names}


def embedder(prefix: str) -> dict[str, Any]:
    """Shapes of the golden file of an embedder without attention, on so many channels as a trunk has."""
    arrays = golden("conv_embedder", "carl")
    shapes = {f"embed.{name.removeprefix(prefix)}": a.shape for name, a in arrays.items() if name.startswith(prefix)}
    return shapes | {
        name.replace("running_mean", "num_batches_tracked"): () for name in shapes if name.endswith("running_mean")
    }


def checkpoint(state: dict[str, Tensor], **more: Any) -> dict[str, Any]:
    return {"epoch": 299, "model_state": state, "optimizer_state": {"state": {}}, "cfg": Settings(algo="scl")} | more


def saved(path: Path, content: Any) -> Artifact:
    torch.save(content, path)
    return Artifact(type="weights", path=path, digest="", origin=f"file:{path.name}")


def evaluated(artifact: Artifact, run: Run, *, layers: int = LAYERS, **changes: Any) -> FrameEncoder:
    """The encoder that an evaluation fills from a file."""
    given: dict[str, Any] = {"data": {"dataset": {"name": "x"}, "sampling": {"name": "long"}}}
    given["embedder"] = {"name": "transformer", "layers": layers}
    return _encoder(build(AlignmentConfig, given | changes), {"weights": (artifact,)}, run)


def test_every_tensor_gets_its_place() -> None:
    state = of_transformer()
    assert is_carl(checkpoint(state))
    found = import_carl(checkpoint(state))
    for theirs, canonical, _ in KEYS:
        ours = carl_names.of_model(canonical).removeprefix("encoder.")
        assert torch.equal(found.tensors[ours], state[theirs]), theirs
    with torch.device("meta"):
        own = method().state_dict()
    shapes = {name.removeprefix("encoder."): tensor.shape for name, tensor in own.items()}
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == shapes
    assert not found.left_out
    assert "pretrain checkpoint of CARL's public code after epoch 299, backbone frame_resnet50" in found.report()
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    assert import_carl(parallel).tensors.keys() == found.tensors.keys()


def test_a_published_file_is_evaluated_with_a_report_of_what_came(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, run = of_transformer(), Run(StageFolder(tmp_path))
    monkeypatch.setenv("MISCHIEF", str(tmp_path / "ran"))
    artifact = saved(tmp_path / "checkpoint_epoch_00299.pth", checkpoint(state, more=[Mischief()]))
    encoder = evaluated(artifact, run)
    assert not (tmp_path / "ran").exists()
    said = capsys.readouterr().out
    count = len([name for name in state if name.startswith(("backbone.", "res_finetune."))])
    assert f"file:{artifact.path.name}: a pretrain checkpoint of CARL's public code after epoch 299" in said
    assert f"took {count} backbone, {len(encoder.embedder.state_dict())} embedder, 9 projector tensors" in said
    for theirs, canonical, _ in KEYS:
        if not theirs.startswith("ssl_projection."):
            ours = carl_names.of_model(canonical).removeprefix("encoder.")
            assert torch.equal(encoder.state_dict()[ours], state[theirs]), theirs
    again = method().encoder
    initialise(again, artifact, "carl", run)
    assert "initial weights: carl, file:checkpoint_epoch_00299.pth: a pretrain checkpoint" in capsys.readouterr().out
    assert all(torch.equal(tensor, encoder.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_what_does_not_fit_fails(tmp_path: Path) -> None:
    state, run = of_transformer(), Run(StageFolder(tmp_path))
    artifact = saved(tmp_path / "checkpoint.pth", checkpoint(state))
    odd = saved(tmp_path / "odd.pth", checkpoint(state | {"backbone.9.weight": torch.zeros(1)}))
    shallow = {name: tensor for name, tensor in state.items() if not name.startswith("backbone.6.")}
    with pytest.raises(StageError, match=rf"embedder of file:checkpoint.pth .*: 16 missing: layers\.{LAYERS}\."):
        evaluated(artifact, run, layers=LAYERS + 1)
    with pytest.raises(StageError, match=r"the backbone of .*: 1 unexpected: 9\.weight"):
        evaluated(odd, run)
    with pytest.raises(StageError, match="belong to the backbone"):
        evaluated(artifact, run, backbone={"name": "frame_resnet50", "layers": 3})
    with pytest.raises(StageError, match="ends below layer3"):
        import_carl(shallow)


@pytest.mark.parametrize("layer4", ["res_finetune", "backbone.7"])
def test_the_convolutional_embedder_leaves_the_layer_that_never_ran(layer4: str) -> None:
    state = numbered(trunk(layer4=layer4) | embedder("w/"))
    found = import_carl({"model_state": state, "epoch": 3})
    names = {f"embedder.{carl_names.of_conv(name.removeprefix('embed.'))}" for name in embedder("w/")}
    assert {name for name in found.tensors if name.startswith("embedder.")} == names
    idle = [name for name in state if name.startswith("res_finetune.")]
    assert found.left_out == idle
    assert found.header()["backbone"]["layers"] == (3 if idle else 4)
    assert any(name.startswith("backbone.layer4.") for name in found.tensors) == (not idle)


def test_linear_layers_and_a_classifier_are_read(tmp_path: Path, capsys: Any) -> None:
    shapes = trunk(layer4="res_finetune") | embedder("vanilla_w/")
    state = numbered(shapes | {"classifier.fc_layers.1.weight": (5, 10), "classifier.fc_layers.1.bias": (5,)})
    artifact = saved(tmp_path / "supervised.pth", checkpoint(state))
    out = tmp_path / "weights.pt"
    assert main(["import", str(artifact.path), str(out)]) == 0
    assert "2 classifier tensors; left out nothing" in capsys.readouterr().out
    header, tensors, report = read_weights(out)
    assert (header["method"], header["backbone"], report) == ("carl", {"name": "frame_resnet50", "layers": 4}, "")
    assert torch.equal(tensors["classifier.weight"], state["classifier.fc_layers.1.weight"])
    assert torch.equal(tensors["backbone.layer4.2.bn3.bias"], state["res_finetune.2.bn3.bias"])
    assert main(["import", str(saved(tmp_path / "x.pt", {"a": torch.zeros(1)}).path), str(out)]) == 2
    assert "no checkpoint of the public code of ViCC" in capsys.readouterr().err
