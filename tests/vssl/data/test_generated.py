"""The generated set: real files, balanced, reproducible, and labelled by motion rather than looks."""

from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from vssl.config import ConfigError, build
from vssl.data.dataset_config import DatasetConfig, GeneratedConfig
from vssl.data.generated.motions import CLASSES, draw_look, generate, path_of, render
from vssl.data.prepare import dataset_root, prepare

SMALL = GeneratedConfig(videos_per_class_train=2, videos_per_class_test=1, classes=3, size=32, frames=16)


def test_a_generated_set_is_prepared_balanced_and_reproducible(tmp_path: Path) -> None:
    config = DatasetConfig(name="g", generated=SMALL)
    said: list[str] = []
    records = [prepare(config, tmp_path / place / "sources", said.append) for place in ("a", "b")]
    assert records[0]["digest"] == records[1]["digest"]
    assert records[0]["splits"] == {"train": 6, "test": 3}
    assert records[0]["classes"] == sorted(CLASSES[:3])
    assert records[0]["excluded"] == []
    table = pd.read_parquet(tmp_path / "a" / "sources" / config.key() / "manifest.parquet")
    assert (table.groupby(["split", "label"]).size() == [1, 1, 1, 2, 2, 2]).all()
    root = dataset_root(config, tmp_path / "a" / "sources")
    assert root.parent == tmp_path / "a" / "generated"
    assert [path.name for path in root.parent.iterdir()] == [root.name]  # nothing half-written beside it
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*.mp4")}
    prepare(config, tmp_path / "a" / "sources", said.append)
    assert times == {path: path.stat().st_mtime_ns for path in root.rglob("*.mp4")}  # made once


def test_some_videos_are_odd() -> None:
    looks = [draw_look(GeneratedConfig(), np.random.default_rng([0, 0, n])) for n in range(100)]
    assert len({(look.height, look.width) for look in looks}) > 5
    assert any(look.height % 2 or look.width % 2 for look in looks)
    assert len({look.fps for look in looks}) > 2
    assert len({look.frames for look in looks}) > 5
    assert {dict(look.encoder)["bf"] for look in looks} == {"0", "2"}


@pytest.mark.parametrize("motion", CLASSES)
def test_each_motion_moves_what_it_names(motion: str) -> None:
    def poses(seed: int) -> np.ndarray:
        return np.array([[p.x, p.y, p.scale, p.angle] for p in path_of(motion, 16, np.random.default_rng(seed))])

    moving = {
        "rise": {1},
        "fall": {1},
        "grow": {2},
        "shrink": {2},
        "spin": {3},
        "sway": {0},
        "circle": {0, 1},
        "bounce": {1},
    }
    for seed in range(20):
        spread = np.ptp(poses(seed), axis=0)
        assert {int(axis) for axis in np.nonzero(spread > 1e-9)[0]} == moving[motion]
    if motion in ("rise", "fall", "grow", "shrink"):
        steps = np.diff(poses(0)[:, min(moving[motion])])
        assert (steps <= 0).all() if motion in ("rise", "shrink") else (steps >= 0).all()


def test_classes_share_their_looks() -> None:
    config = GeneratedConfig(size=32, frames=16, classes=8)
    look = draw_look(config, np.random.default_rng([0, 0, 1]))
    videos = [np.stack(list(render(config, look, "train", label, 1))) for label in range(8)]
    assert {video.shape for video in videos} == {(look.frames, look.height, look.width, 3)}
    corners = np.stack([video[0, :3, :3].reshape(-1) for video in videos]).astype(int)
    assert np.median(np.ptp(corners, axis=0)) < 5  # the same background, before any object


@pytest.mark.parametrize(("drift", "least", "most"), [(0.0, 0, 7), (6.0, 8, 255)])
def test_the_camera_drifts_as_far_as_it_is_told(drift: float, least: float, most: float) -> None:
    config = GeneratedConfig(size=32, frames=16, shots=1, drift=drift)
    look = draw_look(config, np.random.default_rng([0, 0, 1]))
    changes = []
    for number in range(8):
        first, second, *_ = render(config, look, "train", 0, number)
        corner = np.abs(first[:4, :4].astype(int) - second[:4, :4])
        changes.append(corner.mean())
    assert least <= np.median(changes) <= most  # two frames' noise alone makes 5.6


def test_a_typical_colour_is_that_of_the_class_in_every_shot_and_of_another_class_elsewhere() -> None:
    def redness(typical: float, label: int) -> np.ndarray:
        """How much redder than the mean of green and blue a video's shots are."""
        config = GeneratedConfig(size=32, frames=16, shots=2, classes=6, typical=typical)
        look = draw_look(config, np.random.default_rng([0, 0, 1]))
        video = np.stack(list(render(config, look, "train", label, 1))).mean(axis=(1, 2))  # (frames, 3)
        middle = len(video) // 2
        shots = np.stack([video[:middle].mean(axis=0), video[middle:].mean(axis=0)])
        return shots[:, 0] - shots[:, 1:].mean(axis=1)

    plain = redness(0.0, 0)
    red, opposite = redness(1.0, 0), redness(1.0, 3)
    assert (red > plain + 2).all()
    assert (opposite < plain - 2).all()
    odd = redness(1e-9, 0)  # never typical: some other class's colour
    assert (np.abs(odd - red) > 2).all()


@pytest.mark.parametrize(
    "wrong", [{"classes": 9}, {"classes": 1}, {"size": 8}, {"frames": 8, "shots": 2}, {"shots": 0}]
)
def test_impossible_sets_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        build(GeneratedConfig, wrong)


def test_two_that_make_one_set_at_once_both_have_it(tmp_path: Path) -> None:
    config = GeneratedConfig(classes=2, videos_per_class_train=1, videos_per_class_test=1, frames=16, size=32)
    root = tmp_path / "set"

    def other(line: str) -> None:
        if not root.exists():
            raise AssertionError(line)

    real = Path.rename

    def late(aside: Path, target: Path) -> Path:
        """Just before this one is done, another process is."""
        with mock.patch.object(Path, "rename", real):
            generate(config, root, lambda line: None)
        return real(aside, target)

    with mock.patch.object(Path, "rename", late):
        generate(config, root, other)
    assert len(list(root.rglob("*.mp4"))) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
