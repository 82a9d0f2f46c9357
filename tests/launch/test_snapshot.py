"""Snapshots of the code: whole or not there, equal to the checkout, and all that a job imports."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import launch.slurm.snapshot
from launch.plan import Plan
from launch.provenance import CHECKOUT, FOLDERS, code_digest, git_state, source_files
from launch.running.claims import newest
from launch.running.elements import create_batch, element
from launch.slurm.snapshot import remove_snapshot, snapshot, snapshot_path
from launch.store import Store
from vssl.config import ConfigError


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small copy of a checkout, for what this one must not be used for."""
    folder = tmp_path / "checkout"
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
        (folder / name / "one.py").write_text(f"NAME = {name!r}\n")
    (folder / "vssl" / "__pycache__").mkdir()
    for hidden in ("vssl/__pycache__/one.pyc", "vssl/.secret", "configs/.#lock", "launch/one.py~"):
        (folder / hidden).write_text("no")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "gpu.yaml").write_text("partition: gpu\n")
    (folder / "slurm_templates" / "mine").symlink_to(tmp_path / "mine")
    return folder


def test_it_holds_what_a_person_wrote_and_nothing_else(store: Store, checkout: Path) -> None:
    named = snapshot_path(store, checkout)
    assert not store.root.exists(), "asking where it lies writes nothing"
    folder = snapshot(store, checkout)
    assert folder == named
    wanted = {f"{name}/one.py" for name in FOLDERS} | {"slurm_templates/mine/gpu.yaml"}
    assert set(content(folder)) == wanted
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert [path.name for path in store.code.iterdir()] == [folder.name]


def test_it_is_read_only_and_can_be_removed(store: Store, checkout: Path) -> None:
    folder = snapshot(store, checkout)
    assert not any(path.stat().st_mode & 0o222 for path in (folder, *folder.rglob("*")))
    remove_snapshot(folder)
    assert not folder.exists()


def test_equal_code_is_one_snapshot_and_an_edit_is_another(store: Store, checkout: Path) -> None:
    first = snapshot(store, checkout)
    times = {path: path.stat().st_mtime_ns for path in (store.code, *first.rglob("*"))}
    os.utime(first, (0, 0))
    assert snapshot(store, checkout) == first
    assert {path: path.stat().st_mtime_ns for path in times} == times, "the second time nothing is written"
    assert first.stat().st_mtime > 0, "but it counts as used now, and is not removed as idle"
    (checkout / "configs" / "one.py").write_text("NAME = 'edited'\n")
    second = snapshot(store, checkout)
    assert second != first
    assert (first / "configs" / "one.py").read_text() == "NAME = 'configs'\n"


def test_of_launchers_at_once_all_get_the_same_whole_folder(store: Store, checkout: Path) -> None:
    found: list[Path] = []
    ready = threading.Barrier(8)

    def make() -> None:
        ready.wait()
        found.append(snapshot(store, checkout))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in store.code.iterdir()] == [found[0].name]
    assert len(content(found[0])) == len(FOLDERS) + 1


def test_a_launcher_that_ends_while_writing_leaves_no_snapshot(
    store: Store, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path, data: bytes) -> None:
        path.write_bytes(data[:3])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(launch.slurm.snapshot, "_write_file", fails)
        with pytest.raises(KeyboardInterrupt):
            snapshot(store, checkout)
    assert list(store.code.iterdir()) == []
    assert len(content(snapshot(store, checkout))) == len(FOLDERS) + 1


@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_one_that_lost_files_is_made_anew(store: Store, checkout: Path, damage: str) -> None:
    """Scratch file systems remove what was not read for weeks, file by file."""
    folder = snapshot(store, checkout)
    before = content(folder)
    lost = folder / "vssl" / "one.py"
    lost.parent.chmod(0o755)
    lost.chmod(0o644)
    if damage == "removed":
        lost.unlink()
    else:
        lost.write_text("")
    assert snapshot(store, checkout) == folder
    assert content(folder) == before
    assert [path.name for path in store.code.iterdir()] == [folder.name]


def test_code_edited_while_the_line_runs_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.slurm.snapshot, "code_digest", lambda: "what this process began with")
    with pytest.raises(ConfigError, match="was edited while this line ran; type the line again"):
        snapshot(store)
    assert not store.code.exists()


def test_jobs_import_nothing_but_the_snapshot(store: Store, chain: Plan) -> None:
    """As a node starts them, beside a checkout that is installed for editing and is the working directory."""
    folder = snapshot(store)
    assert set(content(folder)) == set(source_files(CHECKOUT, FOLDERS))
    batch = create_batch(store, "local", [element(chain["first"], chain, "pipeline")])
    before = content(folder)
    program = (
        "import json, sys\n"
        "from launch.job import main\n"
        "from launch.provenance import code_digest\n"
        "code = main(sys.argv[1:])\n"
        "from launch import pipeline, cli\n"
        "files = [m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in ('vssl', 'launch')]\n"
        "print(json.dumps([code, code_digest(), files]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(batch), "0"],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    code, digest, files = json.loads(done.stdout.splitlines()[-1])
    assert (code, digest) == (0, code_digest())
    assert len(files) > 20
    assert not [file for file in files if not Path(file).is_relative_to(folder)]
    attempt = newest(store.stage(chain["first"].folder))
    assert attempt is not None
    assert attempt["code"] == code_digest()
    assert content(folder) == before, "a job left something in the snapshot"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_is_asked_which_commit_and_whether_it_was_changed(
    checkout: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "nobody")
        monkeypatch.setenv(f"{name}_EMAIL", "nobody@localhost")

    def now(folder: Path) -> dict[str, str | bool] | None:
        git_state.cache_clear()
        return git_state(folder)

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(checkout), *words], check=True, capture_output=True, text=True).stdout

    assert now(tmp_path) is None
    git("init", "--quiet")
    (checkout / ".gitignore").write_text("runs/\n__pycache__/\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    commit = git("rev-parse", "HEAD").strip()
    assert now(checkout) == {"commit": commit, "dirty": False}
    (checkout / "elsewhere.txt").write_text("not what jobs run")
    assert now(checkout) == {"commit": commit, "dirty": False}
    (checkout / "vssl" / "new.py").write_text("")
    assert now(checkout) == {"commit": commit, "dirty": True}
    inside = snapshot(Store(checkout / "runs"), checkout)
    assert now(inside) is None, "it lies in the repository and is no part of it"


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_state(checkout) is None
