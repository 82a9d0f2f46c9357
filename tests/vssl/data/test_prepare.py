"""Layouts, lists, broken files, identity of a dataset, and the command line of `prepare`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.films import film
from tests.prepared import config_of, quiet, table_of
from vssl.artifacts import canonical_json, read_json, sha256_file, sha256_text
from vssl.config import ConfigError, build, to_mapping
from vssl.data.dataset_config import DatasetConfig, GeneratedConfig
from vssl.data.manifest import COLUMNS, load_source
from vssl.data.prepare import prepare


def test_class_folders_are_divided_by_path_and_evenly_over_classes(videos: Path, tmp_path: Path) -> None:
    config = config_of(videos, test_share=0.34)
    record = prepare(config, tmp_path / "sources", quiet)
    table = table_of(config, tmp_path / "sources")
    assert record["classes"] == ["jump", "run"]
    assert record["splits"] == {"test": 4, "train": 8}
    assert table.groupby(["label", "split"]).size().to_dict() == {
        (0, "test"): 2, (0, "train"): 4, (1, "test"): 2, (1, "train"): 4,
    }  # fmt: skip
    assert sorted(table["frames"]) == sorted([*range(18, 24)] * 2)
    assert set(COLUMNS) - {"video_id"} == set(table.columns)

    (videos / "run" / "run 9.mp4").write_bytes((videos / "run" / "run 0.mp4").read_bytes() + b"\0")
    prepare(config, tmp_path / "sources", quiet)
    after = table_of(config, tmp_path / "sources")["split"]
    assert (after[table.index] == table["split"]).mean() > 0.9  # one more video moves few others


def test_split_folders(videos: Path, tmp_path: Path) -> None:
    root = tmp_path / "splits"
    for split, numbers in {"train": range(4), "test": range(4, 6)}.items():
        for name in ("jump", "run"):
            (root / split / name).mkdir(parents=True)
            for number in numbers:
                shutil.copy(videos / name / f"{name} {number}.mp4", root / split / name)
    config = config_of(root)
    assert prepare(config, tmp_path / "sources", quiet)["splits"] == {"test": 4, "train": 8}
    row = table_of(config, tmp_path / "sources").loc["train/run/run 3.mp4"]
    assert (row["split"], row["label"], row["frames"]) == ("train", 1, 21)


def write_lists(root: Path, train: list[str], test: list[str]) -> None:
    (root / "train.txt").write_text("\n".join(train) + "\n")
    (root / "test.txt").write_text("\n".join(test) + "\n")


def test_lists_take_spaces_commas_numbers_and_names(videos: Path, tmp_path: Path) -> None:
    (videos / "run" / "run 0.mp4").rename(videos / "run" / "run,fast 0.mp4")
    (videos / "classes.txt").write_text("jump\nrun\n")
    write_lists(
        videos,
        ["# a comment", "jump/jump 0.mp4 0", "jump/jump 1.mp4 jump", "", "run/run,fast 0.mp4 1", "run/run 1.mp4,run"],
        ["jump/jump 2.mp4, 0", f"{videos}/run/run 2.mp4\t1"],
    )
    config = config_of(videos)
    assert prepare(config, tmp_path / "sources", quiet)["splits"] == {"test": 2, "train": 4}
    labels = table_of(config, tmp_path / "sources")["label"].to_dict()
    assert labels == {
        "jump/jump 0.mp4": 0, "jump/jump 1.mp4": 0, "jump/jump 2.mp4": 0,
        "run/run 1.mp4": 1, "run/run 2.mp4": 1, "run/run,fast 0.mp4": 1,
    }  # fmt: skip


def test_published_lists_count_from_one_and_leave_test_labels_to_folders(videos: Path, tmp_path: Path) -> None:
    (videos / "classInd.txt").write_text("1 jump\n2 run\n")
    (videos / "trainlist01.txt").write_text("jump/jump 0.mp4 1\nrun/run 0.mp4 2\n")
    (videos / "testlist01.txt").write_text("jump/jump 1.mp4\nrun/run 1.mp4\n")
    config = config_of(videos)
    record = prepare(config, tmp_path / "sources", quiet)
    assert record["classes"] == ["jump", "run"]
    assert table_of(config, tmp_path / "sources")["label"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("jump/jump 3.mp4 jmup", r"train.txt:2: no class 'jmup' \(did you mean `jump`\?\); accepted: 0, 1, jump, run"),
        ("jump/jump 3.mp4 7", "train.txt:2: no class '7'"),
        ("jump/jump 0.mp4 0", "train.txt:2: jump/jump 0.mp4 was already listed at train.txt:1"),
        ("elsewhere.mp4", "train.txt:2: elsewhere.mp4 has no label"),
        ("just some words", "train.txt:2: 'just some words' names no video"),
        ("../outside.mp4 0", "train.txt:2: ../outside.mp4 lies outside"),
    ],
)
def test_a_bad_line_is_named_with_its_file(videos: Path, tmp_path: Path, line: str, message: str) -> None:
    (videos / "classes.txt").write_text("jump\nrun\n")
    write_lists(videos, ["jump/jump 0.mp4 0", line], ["jump/jump 1.mp4 0"])
    with pytest.raises(ConfigError, match=message):
        prepare(config_of(videos), tmp_path / "sources", quiet)
    assert not (tmp_path / "sources").exists()


def test_one_video_in_two_lists_is_refused(videos: Path, tmp_path: Path) -> None:
    write_lists(videos, ["jump/jump 0.mp4 0", "run/run 0.mp4 1"], ["jump/jump 0.mp4 0"])
    with pytest.raises(ConfigError, match=r"test.txt:1: jump/jump 0.mp4 was already listed at train.txt:1"):
        prepare(config_of(videos), tmp_path / "sources", quiet)


def test_equal_content_in_two_splits_is_refused(videos: Path, tmp_path: Path) -> None:
    shutil.copy(videos / "run" / "run 1.mp4", videos / "run" / "copy.mp4")
    write_lists(videos, ["jump/jump 0.mp4 0", "run/run 1.mp4 1"], ["jump/jump 1.mp4 0", "run/copy.mp4 1"])
    with pytest.raises(ConfigError, match=r"run/copy.mp4 \(test\) and run/run 1.mp4 \(train\) have the same content"):
        prepare(config_of(videos), tmp_path / "sources", quiet)


def test_a_missing_list_file_is_named(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no list file .*nowhere\.txt"):
        prepare(config_of(videos, lists={"train": "nowhere.txt"}), tmp_path / "sources", quiet)


def test_broken_files_are_named_excluded_and_counted(damaged: Path, tmp_path: Path) -> None:
    said: list[str] = []
    config = config_of(damaged, max_broken_share=0.25)
    record = prepare(config, tmp_path / "sources", said.append)
    reasons = {Path(entry["path"]).name: entry["reason"] for entry in record["excluded"]}
    assert reasons.keys() == {"truncated.mp4", "empty.mp4", "text.mp4", "three.mp4"}
    assert reasons["empty.mp4"] == "the file is empty"
    assert "only 3 frames" in reasons["three.mp4"]
    assert sum(record["splits"].values()) == 12
    report = "\n".join(said)
    assert all(name in report for name in reasons)
    assert "excluded: 4 of 16 files" in report
    assert "ignored: 1 files" in report


def test_too_many_broken_files_refuse_the_dataset(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)4 of 16 files.*25%, accepted: 5%.*empty.mp4: the file is empty"):
        prepare(config_of(damaged), tmp_path / "sources", quiet)
    assert not list((tmp_path / "sources").glob("*/source.json"))


def test_a_listed_file_that_is_missing_counts_as_broken(videos: Path, tmp_path: Path) -> None:
    write_lists(videos, ["jump/jump 0.mp4 0", "run/gone.mp4 1"], ["jump/jump 1.mp4 0", "run/run 1.mp4 1"])
    record = prepare(config_of(videos, max_broken_share=0.5), tmp_path / "sources", quiet)
    assert record["excluded"] == [{"path": "run/gone.mp4", "reason": "missing (train.txt:2)"}]


@pytest.mark.parametrize("layout", ["auto", "class-folders", "lists", "split-folders"])
def test_a_folder_without_videos_says_what_is_expected(tmp_path: Path, layout: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"train\.txt and test\.txt"):
        prepare(config_of(tmp_path / "empty", layout=layout), tmp_path / "sources", quiet)
    with pytest.raises(ConfigError, match=r"no folder .*nowhere"):
        prepare(config_of(tmp_path / "nowhere", layout=layout), tmp_path / "sources", quiet)


def test_a_moved_folder_keeps_its_digest_and_a_changed_file_changes_it(videos: Path, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    first = prepare(config_of(videos), sources, quiet)["digest"]
    moved = videos.rename(tmp_path / "moved")
    assert prepare(config_of(moved), sources, quiet)["digest"] == first
    assert config_of(moved).key() != config_of(videos).key()
    shutil.copy(moved / "run" / "run 4.mp4", moved / "run" / "run 5.mp4")
    config = config_of(moved, layout="class-folders", test_share=0.0)
    assert prepare(config, sources, quiet)["digest"] != first


def test_more_leaks_than_a_message_holds_are_all_in_a_file(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    for number in range(12):
        first = film(root / "train" / "a" / f"{number:02}.mp4", frames=5)
        (root / "test" / "a").mkdir(parents=True, exist_ok=True)
        shutil.copy(first, root / "test" / "a" / f"again {number:02}.mp4")
    with pytest.raises(ConfigError, match=r"(?s)share 12 contents.*and 2 more, all in .*known_leaks") as raised:
        prepare(config_of(root), tmp_path / "sources", quiet)
    (path,) = (tmp_path / "sources" / ".probes").glob("*.txt")
    assert str(path) in str(raised.value)
    assert len(path.read_text().splitlines()) == 12
    known = tuple(f"test/a/again {number:02}.mp4" for number in range(12))
    assert prepare(config_of(root, known_leaks=known), tmp_path / "sources", quiet)["splits"] == {
        "train": 12,
        "test": 12,
    }


def test_recordings_by_a_pattern_stay_together(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    for label in ("walk", "run"):
        for recording in range(8):
            for clip in range(2):
                film(root / label / f"rec{recording}_{clip}.mp4", frames=5)
    config = config_of(root, group=r"rec\d+(?=_)", test_share=0.4)
    prepare(config, tmp_path / "sources", quiet)
    table = table_of(config, tmp_path / "sources")
    assert set(table["group"]) == {f"rec{n}" for n in range(8)}
    assert (table.groupby("group")["split"].nunique() == 1).all(), "also across classes"
    assert set(table["split"]) == {"train", "test"}
    with pytest.raises(ConfigError, match=r"group is '\(', which is no regular expression"):
        build(DatasetConfig, {"name": "d", "path": "/x", "group": "("})


def test_the_digest_is_that_of_the_sorted_rows(videos: Path, tmp_path: Path) -> None:
    """A failure here means that an upgrade would retrain every network of every user."""
    config = config_of(videos, group=r"^\w+")
    record = prepare(config_of(videos), tmp_path / "sources", quiet)
    rows = [
        [row.path, row.size, row.label, row.split, sha256_file(videos / row.path)]
        for row in table_of(config_of(videos), tmp_path / "sources").itertuples()
    ]
    assert record["digest"] == sha256_text(canonical_json(sorted(rows)))
    assert config.key() != config_of(videos).key()


def test_keys_of_sources_never_change() -> None:
    """A new field of DatasetConfig must not move the folders of datasets that do not use it."""
    assert DatasetConfig(name="d", path="/x").key() == "d-1f16fb214dff"
    assert DatasetConfig(name="g", generated=GeneratedConfig()).key() == "g-ccb68f9a111c"


def test_odd_files_and_folders(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    film(root / "a" / "good.mp4")
    film(root / "b" / "deep" / "er" / "good.MP4".lower())
    film(root / "b" / ".hidden" / "x.mp4")
    film(root / "b" / ".x.mp4")
    (root / "a" / "folder.mp4").mkdir()
    os.mkfifo(root / "a" / "pipe.mp4")
    (root / "a" / "nowhere.mp4").symlink_to("gone.mp4")
    (root / "a" / "loop.mp4").symlink_to("loop.mp4")
    (root / "a" / "link.mp4").symlink_to(root / "a" / "good.mp4")
    film(root / "a" / "latin.mp4").rename(root / "a" / "caf\udce9.mp4")
    config = config_of(root, max_broken_share=0.9, test_share=0.0)
    record = prepare(config, tmp_path / "sources", quiet)
    reasons = {Path(one["path"]).name: one["reason"] for one in record["excluded"]}
    assert reasons["pipe.mp4"] == "no regular file"
    assert reasons["nowhere.mp4"] == "missing"
    assert "Too many levels of symbolic links" in reasons["loop.mp4"]
    assert reasons["caf\\udce9.mp4"].startswith("its name is no UTF-8 text")
    assert len(reasons) == 4
    table = table_of(config, tmp_path / "sources")
    assert sorted(table["path"]) == ["a/good.mp4", "a/link.mp4", "b/deep/er/good.mp4"]
    report = read_json(tmp_path / "sources" / config.key() / "report.json")
    assert report["duplicates"] == [["a/good.mp4", "a/link.mp4"]]
    assert report["excluded"] == {"unreadable": 3, "missing": 1}


def test_a_prepared_source_loads(videos: Path, tmp_path: Path) -> None:
    config = config_of(videos)
    record = prepare(config, tmp_path / "sources", quiet)
    folder = tmp_path / "sources" / config.key()
    source = load_source(folder)
    assert source.digest == record["digest"]
    assert set(source.videos.columns) == set(COLUMNS)
    assert source.frame_classes == ()
    source.videos.drop(columns="group").to_parquet(folder / "manifest.parquet")  # as an earlier version wrote it
    assert set(load_source(folder).videos["group"]) == {""}
    assert source.root == videos
    assert source.videos["video_id"].is_monotonic_increasing


def test_command_line(videos: Path, tmp_path: Path) -> None:
    def call(config: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vssl.data.prepare", config, str(tmp_path / "sources")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = call(json.dumps(to_mapping(config_of(videos))))
    assert done.returncode == 0, done.stderr
    assert "train: " in done.stdout
    assert read_json(tmp_path / "sources" / config_of(videos).key() / "source.json")["splits"]
    refused = call(json.dumps(to_mapping(config_of(tmp_path / "nowhere"))))
    assert refused.returncode == 2
    assert "no folder" in refused.stderr
    assert "Traceback" not in refused.stderr
