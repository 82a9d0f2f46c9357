"""A folder of small copies is a dataset that stands for the one they were made of, in any line that takes a folder."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests import miniatures
from tests.prepared import Prepared, config_of, quiet
from vssl.artifacts import Artifact, StageFolder, read_json, write_json
from vssl.config import ConfigError, build
from vssl.data.dataset_config import DatasetConfig
from vssl.data.label_runs import load_frame_labels
from vssl.data.manifest import load_source
from vssl.data.prepare import changed, prepare
from vssl.run import Run
from vssl.stages.transcode import run
from vssl.stages.transcode_config import TranscodeConfig

IDENTITY = ["video_id", "label", "split", "group", "frames"]


def copies_of(source: Path, folder: Path) -> Path:
    """What a stage of kind transcode makes of a prepared dataset."""
    folder.mkdir()
    config = build(TranscodeConfig, {"short_side": 16, "preset": "ultrafast", "data": {"dataset": {"name": "tiny"}}})
    run(config, {"dataset": (Artifact(type="dataset", path=source, digest="", origin=""),)}, Run(StageFolder(folder)))
    return StageFolder(folder).artifacts / "videos"


@pytest.fixture(scope="module")
def made(prepared_source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copies_of(prepared_source.path, tmp_path_factory.mktemp("copies") / "stage")


@pytest.fixture
def copies(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copies"))


def test_copies_have_ids_labels_and_splits_of_the_originals(prepared_source: Artifact, made: Path) -> None:
    found = Prepared(made)
    assert found.record["layout"] == "transcoded"
    original, copied, named = (load_source(one) for one in (prepared_source.path, found.folder, made))
    assert copied.videos[IDENTITY].equals(original.videos[IDENTITY])
    assert copied.classes == original.classes
    assert copied.digest == named.digest, "as `inputs: {dataset: videos}` hands it on"
    assert {row.height for row in copied.videos.itertuples()} == {16}
    assert not changed(found.config, made.parent / "sources")
    assert "  note: copies of dataset tiny" in found.said


def test_copies_keep_recordings_and_labels_of_frames(root: Path, tmp_path: Path) -> None:
    lists = {"train": "train.pkl", "val": "val.pkl"}
    original = Prepared(miniatures.pouring(root), layout="lists", lists=lists, group=r"\w+(?=_to_)")
    copied = Prepared(copies_of(original.folder, tmp_path / "stage"))
    assert set(load_source(copied.folder).videos["group"]) == {"creamsoda", "milk", "tea", "cup", "water"}
    assert copied.record["frame_classes"] == original.record["frame_classes"]
    before, after = load_frame_labels(original.folder), load_frame_labels(copied.folder)
    assert {name: labels.tolist() for name, labels in after.items()} == {
        name: labels.tolist() for name, labels in before.items()
    }


def test_what_has_no_copy_is_said(copies: Path) -> None:
    record = read_json(copies / "source.json")
    assert record is not None
    write_json(copies / "source.json", record | {"excluded": [{"path": "run/x.mp4", "reason": "ends too early"}]})
    assert "  note: 1 videos have no copy, the first is run/x.mp4" in Prepared(copies).said


def test_a_copy_that_is_gone_counts_as_broken(copies: Path) -> None:
    name = pd.read_parquet(copies / "manifest.parquet")["path"].iloc[0]
    (copies / name).unlink()
    with pytest.raises(ConfigError, match=rf"1 of 12(.|\n)*{name}"):
        Prepared(copies)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fold": 2}, r"fold=2, but .* holds copies, which keep the splits .* transcode the dataset of those splits"),
        ({"layout": "transcoded", "fold": 3}, "fold=3, but"),
        ({"lists": {"train": "a.txt"}}, r"lists=a\.txt, but"),
        ({"layout": "hmdb51"}, r"layout is hmdb51, but .* holds copies .* data\.dataset\.layout=transcoded reads them"),
    ],
)
def test_copies_are_not_divided_anew(made: Path, settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(config_of(made, **settings), tmp_path, quiet)


def test_the_layout_needs_its_tables(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not hold manifest\.parquet and source\.json; .* artifacts/videos"):
        prepare(DatasetConfig(name="d", path=str(videos), layout="transcoded"), tmp_path, quiet)
