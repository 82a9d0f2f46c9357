"""Images that are made here: a labelled set that pre-training can read, the same every time."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vssl.config import ConfigError, build
from vssl.data.dataset_config import DatasetConfig, is_made_here
from vssl.data.generated.images import OUTLINES, draw, generate_images
from vssl.data.generated.images_config import GeneratedImagesConfig
from vssl.data.prepare import prepare

SMALL = GeneratedImagesConfig(images_per_class_train=2, images_per_class_val=1, classes=3, size=32)


def test_a_prepared_set_has_its_classes_and_splits(tmp_path: Path) -> None:
    config = DatasetConfig(name="shapes", generated_images=SMALL)
    record = prepare(config, tmp_path / "store" / "sources", lambda _: None)
    assert record["layout"] == "image-folders"
    assert record["splits"] == {"train": 6, "val": 3}
    assert sorted(record["classes"]) == sorted([*OUTLINES][:3])
    again = prepare(config, tmp_path / "other" / "sources", lambda _: None)
    assert again["digest"] == record["digest"]


def test_images_are_made_once_and_in_the_asked_size(tmp_path: Path) -> None:
    said: list[str] = []
    generate_images(SMALL, tmp_path / "set", said.append)
    generate_images(SMALL, tmp_path / "set", said.append)
    assert said[-1] == f"made 9 images in {tmp_path / 'set'}"
    with Image.open(next((tmp_path / "set").rglob("*.png"))) as image:
        assert image.size == (42, 32)


@pytest.mark.parametrize("name", OUTLINES)
def test_every_outline_is_its_own_mirror_image_and_covers_a_part(name: str) -> None:
    v, u = np.mgrid[-1.3:1.3:80j, -1.3:1.3:80j]
    inside = OUTLINES[name](u, v) < 0
    assert (inside == inside[:, ::-1]).all()
    assert 0.05 < inside.mean() < 0.6
    rng = np.random.default_rng(0)
    assert draw(name, 32, rng).shape == (32, 42, 3)


def test_a_folder_and_a_made_set_exclude_one_another() -> None:
    with pytest.raises(ConfigError, match="keep one"):
        build(DatasetConfig, {"name": "x", "path": "/x", "generated_images": {}})
    assert is_made_here({"generated": None, "generated_images": {}})
    assert not is_made_here({"generated": None})
