"""`vssl predict`: five classes with probabilities, and where the class token looked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typer.testing import CliRunner

from launch.cli import app
from tests.films import film
from tests.goldens import golden, golden_tensors
from tests.tiny_stages import make_stages
from vssl.backbones.backbone_config import BackboneConfig, MViTBConfig, TimeSformerConfig, ViViTConfig
from vssl.backbones.build import build_backbone
from vssl.backbones.sts_backbones_config import X3DSConfig
from vssl.config import ConfigError, build, to_mapping
from vssl.data.decode import read_frames
from vssl.data.sampling.samplers import build_sampler
from vssl.data.sampling.sampling_config import DenseConfig
from vssl.nn.heads import ClassifierHead, fine_tuning_head
from vssl.plots_attention import strongest
from vssl.predict import predict
from vssl.published_vtransformer import import_vtransformer
from vssl.randomness import seeded
from vssl.weights import write_weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small TimeSformer that was fine-tuned for a few steps."""
    root = tmp_path_factory.mktemp("trained")
    stage = make_stages(root)["transformer"]
    stage.execute(root)
    return root / stage.name / "artifacts" / "weights"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("films") / "jump.mp4"
    film(path, frames=20)
    return path


def test_classes_come_with_probabilities_and_a_picture(trained: Path, video: Path, tmp_path: Path) -> None:
    found = predict(video, trained, picture=tmp_path / "map.png")
    assert {name for name, _ in found.classes} == {"left", "right"}
    assert sum(share for _, share in found.classes) == pytest.approx(1, abs=1e-5)
    assert found.classes[0][1] >= found.classes[1][1]
    assert found.picture is not None
    assert found.picture.read_bytes().startswith(b"\x89PNG")
    assert predict(video, trained, picture=None).classes == found.classes
    assert predict(video, trained, picture=None, clips=2, crops=1).picture is None


def probabilities(network: nn.Module, head: ClassifierHead, views: Tensor) -> list[float]:
    """Of the mean logits over views (n, 3, T, H, W)."""
    with torch.no_grad():
        shares: Tensor = head.eval()(head.pool(network.eval()(views))).mean(dim=0).softmax(dim=0)
    return shares.tolist()


def by_class(path: Path, video: Path, **options: Any) -> list[float]:
    found = dict(predict(video, path, picture=None, **options).classes)
    return [found[f"class {number}"] for number in range(len(found))]


PUBLISHED = [
    ("03_timesformer_divided_space_time", 0.5, 0.5, 32),
    ("06_vivit_fact_encoder", 0.45, 0.225, 16),
    ("06_vivit_joint_space_time", 0.45, 0.225, 16),
    ("13_maskfeat_mvit_tiny", 0.45, 0.225, 4),
]


@pytest.mark.parametrize(("name", "mean", "std", "stride"), PUBLISHED)
def test_a_published_classifier_sees_what_it_was_trained_on(
    name: str, mean: float, std: float, stride: int, tmp_path: Path
) -> None:
    """Frames, colours and sizes by hand, on a video of the network's size: one view is all of its frames."""
    meta = json.loads(str(golden(name, "vtransformer")["meta"]))
    frames, side = meta.get("frames") or meta["num_frames"], meta.get("img") or meta["img_size"]
    arrays = golden_tensors(name, "vtransformer")
    state = {f"model.{key.removeprefix('w/')}": t.float() for key, t in arrays.items() if key.startswith("w/")}
    features = len(state["model.mvit.norm_embed.weight" if "mvit" in name else "model.norm.weight"])
    with seeded(0):
        weight, bias = torch.randn(5, features), torch.randn(5)
    file, video = tmp_path / "released.pth", tmp_path / "clip.mp4"
    torch.save({"state_dict": state | {"cls_head.cls_head.weight": weight, "cls_head.cls_head.bias": bias}}, file)
    film(video, frames=4 * frames - 1, size=(side, side))

    window = min(4 * frames - 1, stride * frames)
    begin = (4 * frames - 1 - window) // 2
    shown = np.linspace(begin, begin + window - 1, frames).astype(int).tolist()
    pixels = torch.from_numpy(read_frames(video, shown)).permute(3, 0, 1, 2)[None] / 255
    found = import_vtransformer(state)
    network = build_backbone(_backbone(found.backbone_config))
    trunk = {key.removeprefix("backbone."): t for key, t in found.tensors.items() if key.startswith("backbone.")}
    network.load_state_dict(trunk)
    head = fine_tuning_head(network, 5)
    head.load_state_dict({"linear.weight": weight, "linear.bias": bias})
    expected = probabilities(network, head, (pixels - mean) / std)
    assert by_class(file, video) == pytest.approx(expected, abs=1e-5)  # of a square, three crops are one


def _backbone(config: Any) -> BackboneConfig:
    kinds = {"timesformer": TimeSformerConfig, "vivit": ViViTConfig, "mvit_b": MViTBConfig}
    found: BackboneConfig = build(kinds[config["name"]], config)
    return found


def test_a_classifier_with_a_hidden_layer_classifies(tmp_path: Path) -> None:
    config = X3DSConfig(width=8)
    with seeded(0):
        network = build_backbone(config)
        head = fine_tuning_head(network, 3)
    tensors = {
        f"{part}.{key}": t for part, of in (("backbone", network), ("head", head)) for key, t in of.state_dict().items()
    }
    clips = {"num_frames": 4, "frame_stride": 2, "crop_size": 32, "sampling": {"name": "dense"}, "statistics": "half"}
    file, video = tmp_path / "weights", tmp_path / "clip.mp4"
    write_weights(file, {"backbone": to_mapping(config), "modality": "rgb", "clips": clips}, tensors)
    film(video, frames=7, size=(32, 32))
    pixels = torch.from_numpy(read_frames(video, [0, 2, 4, 6])).permute(3, 0, 1, 2)[None] / 255
    assert by_class(file, video) == pytest.approx(probabilities(network, head, (pixels - 0.5) / 0.5), abs=1e-5)


def test_the_picture_is_of_the_first_clips_central_crop(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Tensor] = []

    def shows(clip: Tensor, *_: Any, **__: Any) -> None:
        shown.append(clip)

    monkeypatch.setattr("vssl.predict.attention_map", shows)
    long = tmp_path / "long.mp4"
    film(long, frames=40, size=(32, 48))
    for crops, clips in ((1, 1), (3, 1), (3, 3)):
        predict(long, trained, picture=tmp_path / "map.png", clips=clips, crops=crops)
    alone, of_three, of_nine = shown
    assert torch.equal(of_three, alone)
    seen = json.loads(torch.load(trained, weights_only=True)["header"])["clips"]
    sampler = build_sampler(DenseConfig(), seen["num_frames"], seen["frame_stride"])
    begins = sampler.spread(40, 25.0, 3)[:, 0].tolist()
    assert begins[0] != begins[1]
    first = torch.from_numpy(read_frames(long, begins[:1])).float()[0, :, 8:40]  # the middle of 48 columns
    square = F.interpolate(first.permute(2, 0, 1)[None], size=of_nine.shape[-2:], mode="bicubic", antialias=True)[0]
    assert correlation(of_nine[:, 0], square) > 0.99


def correlation(one: Tensor, other: Tensor) -> float:
    return torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item()


def test_the_verb_says_the_same(trained: Path, video: Path, tmp_path: Path) -> None:
    words = ["predict", str(video), "--checkpoint", str(trained), "--picture", str(tmp_path / "map.png"), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    said: dict[str, Any] = json.loads(result.stdout)
    assert [tuple(pair) for pair in said["classes"]] == list(predict(video, trained, picture=None).classes)
    assert Path(said["picture"]).is_file()


def test_what_cannot_be_classified_is_said(trained: Path, video: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no video"):
        predict(tmp_path / "none.mp4", trained, picture=None)
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        predict(video, video, picture=None)
    content = torch.load(trained, weights_only=True)
    header = {key: value for key, value in json.loads(content["header"]).items() if key != "clips"}
    write_weights(tmp_path / "mute", header, content["tensors"])
    with pytest.raises(ConfigError, match="mute does not say what clips its classifier was trained on; bind it to"):
        predict(video, tmp_path / "mute", picture=None)
    with pytest.raises(ConfigError, match="crops is 2; take at least 1 clip, and 1 or 3 crops"):
        predict(video, trained, picture=None, crops=2)


def test_the_strongest_patches_hold_the_mass_and_no_more_than_needed() -> None:
    shares = torch.tensor([[0.4, 0.1], [0.3, 0.2]])
    assert torch.equal(strongest(shares, 0.6), torch.tensor([[0.4, 0.0], [0.3, 0.0]]))
    assert torch.equal(strongest(shares, 1.0), shares)
