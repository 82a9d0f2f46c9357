"""Folders of videos that cannot be used, or only in part: said before anything is trained, file by file."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import pipeline
from launch.exit_codes import BAD_INPUT
from tests.launch.bad_lines import Row, Try, snapshot, trying
from vssl.artifacts import read_json
from vssl.data import prepare
from vssl.data.decode import read_frames, write_video

LINE = "sweep=vicc_single scale=smoke executor=local only=flow data=<videos>"
BROKEN = {
    "cut.mp4": "moov atom|truncated|Invalid data",
    "empty.mp4": "the file is empty",
    "short.mp4": "only 3 frames",
    "text.mp4": "Invalid data",
}


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Try:
    return trying(tmp_path, monkeypatch, capfd)


@pytest.fixture
def videos(tiny_videos: Path, tmp_path: Path) -> Path:
    """Twelve videos of two classes, and lists of them that a test may spoil."""
    root = Path(shutil.copytree(tiny_videos, tmp_path / "videos"))
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.mp4"))
    for split, start in (("train", 0), ("test", 1)):
        (root / f"{split}.txt").write_text("".join(f"{name} {name.split('/')[0]}\n" for name in names[start::2]))
    return root


def replace_in(name: str, old: str, new: str) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return spoil


def same_content_twice(root: Path) -> None:
    shutil.copy(root / "jump" / "jump 0.mp4", root / "jump" / "jump 1.mp4")


def break_videos(root: Path) -> None:
    whole = (root / "jump" / "jump 0.mp4").read_bytes()
    (root / "jump" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "jump" / "empty.mp4").write_bytes(b"")
    frames = read_frames(root / "jump" / "jump 0.mp4", range(3))
    write_video(root / "jump" / "short.mp4", frames, codec="libx264", fps=25)
    (root / "run" / "text.mp4").write_text("this is no video\n" * 100)
    for name in ("train.txt", "test.txt"):
        (root / name).unlink()


@pytest.mark.parametrize(
    ("row", "spoil"),
    [
        (
            Row("no such folder", LINE + "/nowhere", ("no folder <videos>/nowhere", "data.dataset.path")),
            lambda root: None,
        ),
        (
            Row("a file for a folder", LINE + "/train.txt", ("no folder <videos>/train.txt", "data.dataset.path")),
            lambda root: None,
        ),
        (
            Row("folder without videos", LINE + "/empty", ("no videos in <videos>/empty", "<class>/<video>", ".mp4")),
            lambda root: (root / "empty").mkdir(),
        ),
        (
            Row("label missing in a list", LINE, ("train.txt:1", "loose.mp4 has no label", "class number or name")),
            replace_in("train.txt", "jump/jump 0.mp4 jump", "loose.mp4"),
        ),
        (
            Row("unknown class in a list", LINE, ("test.txt:1", "no class 'jmp'", "`jump`?", "accepted: jump, run")),
            replace_in("test.txt", ".mp4 jump", ".mp4 jmp"),
        ),
        (
            Row("list names a missing file", LINE, ("jump 9.mp4: missing (train.txt:1)", "max_broken_share")),
            replace_in("train.txt", "jump 0", "jump 9"),
        ),
        (
            Row(
                "list file missing",
                LINE + " stages.all.data.dataset.lists={train:train.txt,test:tset.txt}",
                ("no list file <videos>/tset.txt", "data.dataset.lists"),
            ),
            lambda root: None,
        ),
        (
            Row("one content in train and test", LINE, ("jump 0.mp4 (train)", "jump 1.mp4 (test)", "remove one")),
            same_content_twice,
        ),
        (
            Row(
                "too many broken files",
                LINE,
                ("4 of 16 files", "25%, accepted: 5%", "jump/empty.mp4: the file is empty", "max_broken_share"),
            ),
            break_videos,
        ),
    ],
    ids=lambda value: value.id if isinstance(value, Row) else "",
)
def test_a_bad_folder_of_videos(
    row: Row, spoil: Callable[[Path], object], videos: Path, tmp_path: Path, attempt: Try
) -> None:
    (tmp_path / "place").mkdir()
    spoil(videos)
    attempt(row, tmp_path / "place", videos=videos)


def test_broken_files_below_the_accepted_share_are_named_counted_and_left_out(
    videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    break_videos(videos)
    root = tmp_path / "root"
    line = f"sweep=vicc_single scale=smoke executor=local only=retrieval-fused data={videos} root={root}"
    # the line stops at a parent that is not finished: the report comes before any stage
    assert pipeline.main([*line.split(), "stages.all.data.dataset.max_broken_share=0.3"]) == BAD_INPUT
    said = capfd.readouterr()
    assert "retrieval-fused needs retrieval-rgb" in said.err
    assert "excluded: 4 of 16 files" in said.out
    (record,) = (read_json(path) for path in root.glob("sources/*/source.json"))
    reasons = {Path(entry["path"]).name: entry["reason"] for entry in record["excluded"]}
    assert set(reasons) == set(BROKEN)
    for name, reason in reasons.items():
        assert f"{name}: {reason}" in said.out
        assert any(words in reason for words in BROKEN[name].split("|")), reason
    assert sum(record["splits"].values()) == 12
    assert not (root / "stages").exists()


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only file")])
def test_a_disk_that_takes_no_manifest_is_said_in_one_line_and_leaves_nothing(
    number: int,
    words: str,
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(number, os.strerror(number), str(target))

    monkeypatch.setattr(os, "replace", refuse)
    dataset = json.dumps({"name": "d", "path": str(videos)})
    assert prepare.main([dataset, str(tmp_path / "sources")]) == BAD_INPUT
    said = capfd.readouterr().err
    assert words in said
    assert "manifest.parquet" in said
    assert "free space" in said
    assert [path for path in snapshot(tmp_path / "sources") if "." in path] == []
