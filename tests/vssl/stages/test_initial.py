"""What CARL's backbone starts from: files under the names others gave them, whole or not at all (card, point 10)."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet50

from tests.tiny_stages import framing
from vssl.artifacts import Artifact, StageFolder, sha256_file
from vssl.backbones.backbone_config import FrameResNet50Config, TinyFramesConfig
from vssl.methods.carl import CARL
from vssl.methods.carl_config import CARLConfig
from vssl.nn.embedder_config import TransformerEmbedderConfig
from vssl.published_images import image_network, read_image_network
from vssl.run import Run, StageError
from vssl.stages.initial import initialise
from vssl.weights import save_weights

SMALL = TransformerEmbedderConfig(layers=1, dim=8, heads=2, ff_dim=8, fc_dims=(8, 8), embedding_dim=6)


def method(backbone: Any = None, seed: int = 0) -> CARL:
    chosen = backbone or TinyFramesConfig(width=2)
    return CARL.from_config(CARLConfig(embedder=SMALL), chosen, global_batch_size=1, seed=seed)


def saved(path: Path, content: Any) -> Artifact:
    torch.save(content, path)
    return Artifact(type="weights", path=path, digest=sha256_file(path), origin=f"file:{path}")


def published(kind: str, state: dict[str, Tensor]) -> Any:
    """A file as each project writes it, with the other network and the heads that are left out."""

    def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}

    noise = {name: tensor + 1 for name, tensor in state.items()}
    head = {"fc.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(3)}
    if kind == "imagenet":
        return state | head
    if kind == "simclr":
        inner = under("encoder", state) | under("momentum_encoder.encoder", noise)
        return {"state_dict": inner | {"projection.model.0.weight": torch.zeros(2)}, "epoch": 3}
    ours = "module.encoder" if kind == "byol" else "module.encoder_q"
    inner = under(ours, state | head) | under("module.encoder_k", noise)
    return {"model" if kind == "byol" else "state_dict": inner, "epoch": 3}


@pytest.mark.parametrize("kind", ["imagenet", "byol", "mocov2", "simclr"])
def test_point_10_every_tensor_is_taken_from_the_right_network(kind: Any) -> None:
    names = ("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer4.2.bn3.bias")
    state = {name: torch.full((), float(n)) for n, name in enumerate(names)}
    assert image_network(published(kind, state), kind, "a file") == state


def test_a_file_of_lightning_is_read_without_its_settings(tmp_path: Path) -> None:
    state = {"conv1.weight": torch.ones(2), "bn1.bias": torch.zeros(2)}
    path = tmp_path / "simclr.ckpt"
    torch.save(published("simclr", state) | {"hparams": Namespace(lr=0.1), "callbacks": {Path: {"best": None}}}, path)
    found = read_image_network(path, "simclr")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    path.write_bytes(b"no checkpoint")
    with pytest.raises(StageError, match="cannot be read as tensors"):
        read_image_network(path, "simclr")


def test_point_10_a_published_file_fills_the_backbone_and_is_named(tmp_path: Path, capsys: Any) -> None:
    source = resnet50()
    artifact = saved(tmp_path / "resnet50.pth", source.state_dict())
    run = Run(StageFolder(tmp_path))
    taken = method(FrameResNet50Config())
    initialise(taken.encoder, artifact, "imagenet", run)
    for name, tensor in taken.backbone.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name
    assert f"initial weights: imagenet, file:{tmp_path}/resnet50.pth: took all 318 tensors" in capsys.readouterr().out
    lower = method(FrameResNet50Config(layers=3))
    initialise(lower.encoder, artifact, "imagenet", run)
    assert "not 60 of layer4" in capsys.readouterr().out
    broken = {name: tensor for name, tensor in source.state_dict().items() if name != "layer2.0.conv1.weight"}
    for content, word in (
        (broken, "1 missing: layer2.0.conv1.weight"),
        (source.state_dict() | {"layer1.7.conv1.weight": torch.zeros(1)}, "1 unexpected: layer1.7"),
        ({"state_dict": source.state_dict()}, "holds no imagenet network"),
    ):
        with pytest.raises(StageError, match=word):
            initialise(taken.encoder, saved(tmp_path / "other.pth", content), "imagenet", run)


def test_a_network_of_an_earlier_stage_goes_on(tmp_path: Path) -> None:
    run = Run(StageFolder(tmp_path))
    before, after = method(seed=1), method(seed=2)
    path = save_weights(run, "weights", {"backbone": {}}, before.weights())
    artifact = Artifact(type="weights", path=path, digest=sha256_file(path), origin="pretrain-k400")
    initialise(after.encoder, artifact, "carl", run)
    for name, tensor in before.encoder.state_dict().items():
        assert torch.equal(tensor, after.encoder.state_dict()[name])


def test_a_kind_without_a_file_is_refused() -> None:
    with pytest.raises(StageError, match="no file is bound to the role `initial`"):
        initialise(method().encoder, None, "byol", Run(StageFolder(Path("/nowhere"))))
    config = framing()
    assert "initial" not in config.reads()
    own = {"name": "carl", "initial": "byol"}
    assert "initial" in framing(method=own).reads()
