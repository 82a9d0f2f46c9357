"""A `prepare` that was made before, was killed, is made twice at once, or whose files changed since."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.films import film
from tests.prepared import config_of, quiet, table_of
from vssl.artifacts import read_json, write_json
from vssl.config import ConfigError, to_mapping
from vssl.data import prepare as prepare_module
from vssl.data.dataset_config import DatasetConfig
from vssl.data.prepare import changed, prepare
from vssl.data.preparing import examine
from vssl.data.preparing.isolation import isolated


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read, in the order in which they are handed out."""
    names: list[str] = []

    def counted(work: Callable[[Path], object], tasks: Iterable[Path], workers: int, **limits: Any) -> object:
        paths = list(tasks)
        names.extend(path.name for path in paths)
        return isolated(work, paths, workers, **limits)

    monkeypatch.setattr(examine, "isolated", counted)
    return names


def test_unchanged_files_are_not_read_again(videos: Path, tmp_path: Path, reads: list[str]) -> None:
    config, sources = config_of(videos), tmp_path / "sources"
    before = prepare(config, sources, quiet)
    assert len(reads) == 12
    after = prepare(config, sources, quiet)
    assert len(reads) == 12
    assert {**after, "prepared_at_ms": 0} == {**before, "prepared_at_ms": 0}
    os.utime(videos / "run" / "run 1.mp4", (1, 1))
    assert prepare(config, sources, quiet)["digest"] == before["digest"]
    assert reads[12:] == ["run 1.mp4"]


def test_a_manifest_spares_reading_unless_readers_have_learnt_something_since(
    videos: Path, tmp_path: Path, reads: list[str]
) -> None:
    config, sources = config_of(videos), tmp_path / "sources"
    before = prepare(config, sources, quiet)
    shutil.rmtree(sources / ".probes")
    assert prepare(config, sources, quiet)["digest"] == before["digest"]
    assert len(reads) == 12
    record = sources / config.key() / "source.json"
    write_json(record, {name: value for name, value in before.items() if name != "probes"})
    assert prepare(config, sources, quiet)["digest"] == before["digest"]
    assert len(reads) == 24


def test_a_refused_dataset_is_not_read_again_either(damaged: Path, tmp_path: Path, reads: list[str]) -> None:
    with pytest.raises(ConfigError, match="4 of 16 files"):
        prepare(config_of(damaged), tmp_path / "sources", quiet)
    assert len(reads) == 16
    record = prepare(config_of(damaged, max_broken_share=0.3), tmp_path / "sources", quiet)
    assert len(reads) == 16
    assert len(record["excluded"]) == 4


def prepare_apart(config: DatasetConfig, sources: Path, *options: str) -> "subprocess.Popen[str]":
    words = [sys.executable, *options, "-m", "vssl.data.prepare", json.dumps(to_mapping(config)), str(sources)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def journal_lines(sources: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in sources.glob(".probes/*/*.jsonl"))


def test_a_killed_prepare_goes_on_where_it_stopped(tmp_path: Path, reads: list[str]) -> None:
    root, sources = tmp_path / "videos", tmp_path / "sources"
    for number in range(40):
        film(root / "a" / f"{number}.mp4", frames=40, size=(64, 64))
    process = prepare_apart(config_of(root), sources)
    while journal_lines(sources) < 5 and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.communicate(timeout=60)  # its readers are gone too: they hold the same pipes
    kept = journal_lines(sources)
    assert 5 <= kept < 40, "killed in the middle"
    assert not list(sources.glob("*/source.json"))
    (journal,) = sources.glob(".probes/*/*.jsonl")
    journal.write_bytes(journal.read_bytes()[:-3])  # as a kill in the middle of a line would leave it
    record = prepare(config_of(root), sources, quiet)
    assert len(reads) == 40 - (kept - 1)
    assert sum(record["splits"].values()) == 40
    assert prepare(config_of(root), tmp_path / "other", quiet)["digest"] == record["digest"]


def test_two_at_once_on_one_root(tmp_path: Path) -> None:
    root, sources = tmp_path / "videos", tmp_path / "sources"
    for number in range(16):
        film(root / "a" / f"{number}.mp4")
    (root / "a" / "broken.mp4").write_bytes(b"nothing")
    config = config_of(root, max_broken_share=0.2)
    processes = [prepare_apart(config, sources) for _ in range(2)]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    record = read_json(sources / config.key() / "source.json")
    assert prepare(config, tmp_path / "alone", quiet)["digest"] == record["digest"]
    table = table_of(config, sources)
    assert len(table) == 16
    assert table.index.is_unique
    assert changed(config, sources) == []


def test_changes_since_prepare_are_listed(videos: Path, tmp_path: Path) -> None:
    config, sources = config_of(videos), tmp_path / "sources"
    assert changed(config, sources) == ["not prepared"]
    prepare(config, sources, quiet)
    assert changed(config, sources) == []
    os.utime(videos / "run" / "run 1.mp4", (1, 1))
    (videos / "run" / "run 2.mp4").unlink()
    shutil.copy(videos / "jump" / "jump 1.mp4", videos / "jump" / "fresh.mp4")
    found = "\n".join(changed(config, sources))
    assert "run/run 1.mp4 has another size or time" in found
    assert "run/run 2.mp4 is gone" in found
    assert "jump/fresh.mp4 is new" in found


def test_the_record_comes_last(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, sources = config_of(videos), tmp_path / "sources"
    prepare(config, sources, quiet)
    os.utime(videos / "run" / "run 1.mp4", (1, 1))

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare_module, "write_atomic", full_disk)
    with pytest.raises(OSError, match="No space"):
        prepare(config, sources, quiet)
    assert not (sources / config.key() / "source.json").exists()  # never beside a manifest of another time
