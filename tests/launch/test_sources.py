import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from launch.planning import sources
from launch.planning.sources import prepare_sources, run_apart
from vssl.artifacts import write_json
from vssl.config import ConfigError


@pytest.fixture
def said():
    return []


@pytest.fixture
def fake(monkeypatch, store):
    """A `prepare` that digests what the test says, so that no video is needed."""
    world = {"digest": "a", "changed": [], "prepared": 0, "code": 0}

    def run(words):
        assert words[1:4] == ["-P", "-m", "vssl.data.prepare"]
        assert json.loads(words[4])["name"] == "set"
        world["prepared"] += 1
        if world["code"] == 0:
            folder = Path(words[5]) / "set-1"
            folder.mkdir(exist_ok=True)
            write_json(folder / "source.json", {"digest": world["digest"], "name": "set"})
        return world["code"]

    monkeypatch.setattr(sources, "run_apart", run)
    monkeypatch.setattr(sources, "changed_files", lambda dataset, store: world["changed"])
    return world


DATASETS = {"set-1": {"name": "set", "path": "/videos"}}


def test_a_missing_source_is_prepared_and_a_present_one_left_alone(store, fake, said):
    assert prepare_sources(DATASETS, store, said.append) == ("set-1",)
    assert prepare_sources(DATASETS, store, said.append) == ()
    assert fake["prepared"] == 1
    assert store.source_digest("set-1") == "a"


def test_changed_files_are_named_and_the_source_is_prepared_again(store, fake, said):
    prepare_sources(DATASETS, store, said.append)
    fake |= {"digest": "b", "changed": [f"{n}.mp4 has another size or time" for n in range(7)]}
    assert prepare_sources(DATASETS, store, said.append) == ("set-1",)
    assert "0.mp4 has another size or time" in said[1]
    assert "and 2 more" in said[1]
    assert store.source_digest("set-1") == "b"


def test_a_file_that_was_only_touched_keeps_the_digest(store, fake, said):
    prepare_sources(DATASETS, store, said.append)
    fake["changed"] = ["0.mp4 has another size or time"]
    assert prepare_sources(DATASETS, store, said.append) == ()
    assert fake["prepared"] == 2


def test_a_dataset_that_cannot_be_used_is_bad_input(store, fake, said):
    fake["code"] = 2
    with pytest.raises(ConfigError, match=r"dataset set \(/videos\) was not prepared"):
        prepare_sources(DATASETS, store, said.append)
    assert store.source_digest("set-1") is None


def test_an_interrupt_is_passed_on_and_waited_for(tmp_path):
    def interrupt():
        while not (tmp_path / "begun").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    script = (
        f"trap 'sleep 0.3; touch {tmp_path}/cleared; exit 1' INT; touch {tmp_path}/begun; while :; do sleep 0.1; done"
    )
    with pytest.raises(KeyboardInterrupt):
        run_apart(["sh", "-c", script])
    assert (tmp_path / "cleared").exists()
