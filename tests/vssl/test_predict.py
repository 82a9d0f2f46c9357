"""`vssl predict`: five classes with probabilities, and where the class token looked."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from launch.cli import app
from tests.films import film
from tests.tiny_stages import make_stages
from vssl.config import ConfigError
from vssl.plots_attention import strongest
from vssl.predict import predict


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
    with pytest.raises(ConfigError, match="crops is 2; take at least 1 clip, and 1 or 3 crops"):
        predict(video, trained, picture=None, crops=2)


def test_the_strongest_patches_hold_the_mass_and_no_more_than_needed() -> None:
    shares = torch.tensor([[0.4, 0.1], [0.3, 0.2]])
    assert torch.equal(strongest(shares, 0.6), torch.tensor([[0.4, 0.0], [0.3, 0.0]]))
    assert torch.equal(strongest(shares, 1.0), shares)
