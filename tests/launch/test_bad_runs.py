"""What only a running stage can find out, and disks that fill up: named in the report, with nothing half-written."""

import errno
import io
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from launch import pipeline
from launch.executors import local
from launch.exit_codes import BAD_INPUT, DONE, FAILED, REFUSED
from launch.plan import Plan
from launch.planning.command_line import parse
from launch.planning.planner import make_plan
from launch.running.claims import newest
from launch.store import Store, is_full
from tests.launch.bad_lines import Row, checkout_with, snapshot, trying
from tests.planning import COMPOSER
from vssl.artifacts import canonical_json, read_json, write_atomic, write_json

SWEEP = """
stages:
  - {name: no-weights, kind: retrieval, config: [recipe=vicc_retrieval], inputs: {weights: "file:<folder>/text.pt"}}
  - {name: misfit, kind: retrieval, config: [recipe=vicc_retrieval], inputs: {weights: "file:<folder>/s3d.pt"}}
  - {name: damaged, kind: pretrain, config: [recipe=vicc_single]}
  - {name: short, kind: linear, config: [recipe=vicc_linear]}
  - {name: flow, kind: flow, config: [recipe=vicc_flow], output: motion}
  - {name: below, kind: pretrain, config: [recipe=vicc_single, data.modality=flow], inputs: {motion: motion}}
"""
LINE = "scale=smoke executor=local data=<videos> root=<store> stages.all.resources.cpus_per_task=1 "


class NoPusher:
    """Metrics of these runs are of no interest."""

    def __init__(self, *arguments: object) -> None: ...

    def start(self) -> None: ...

    def finish(self) -> None: ...


@pytest.fixture(scope="module")
def failed(tiny_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, Plan, Store]:
    """One run of the sweep above, whose every stage fails for a reason of its own: (exit code, said, plan, store)."""
    folder = tmp_path_factory.mktemp("failed")
    (folder / "text.pt").write_text("no weights at all")
    header = {"kind": "pretrain", "method": "vicc", "backbone": {"name": "s3d"}, "modality": "rgb", "stage": "x"}
    torch.save({"header": canonical_json(header), "tensors": {}}, folder / "s3d.pt")
    (folder / "hidden").mkdir()
    (folder / "hidden" / "cv2.py").write_text("raise ImportError('no OpenCV here')\n")
    (folder / "checkout").mkdir()
    checkout = checkout_with(folder / "checkout", SWEEP.replace("<folder>", str(folder)))
    line = LINE.replace("<videos>", str(tiny_videos)).replace("<store>", str(folder / "root"))
    words = ["sweep=written", *line.split(), "stages.short.data.num_frames=640"]
    store = Store(folder / "root", visibility_s=0)
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        patch.setattr(pipeline, "_CHECKOUT", checkout)
        patch.setattr(pipeline, "Composer", lambda folder: COMPOSER)
        patch.setattr(local, "Pusher", NoPusher)
        patch.setenv("PYTHONPATH", str(folder / "hidden"))
        assert pipeline.main([*words, "only=below"]) == BAD_INPUT  # prepares the videos, then asks for the parent
        plan = make_plan(parse(words, folder), store.source_digest, checkout=checkout, composer=COMPOSER)
        checkpoints = store.stage(plan["damaged"].folder).checkpoints
        checkpoints.mkdir(parents=True)
        for step in (2, 4):
            (checkpoints / f"{step}.pt").write_bytes(b"half a checkp")
            manifest = {"step": step, "file": f"{step}.pt", "size": 4096, "sha256": "0" * 64, "journal_offset": 0}
            write_json(checkpoints / f"{step}.json", manifest | {"world_size": 1, "identity": "0" * 16})
        code = pipeline.main(words)
    return code, said.getvalue(), plan, store


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (
            "no-weights",
            ("text.pt cannot be read as weights", "a file of a pretrain, linear or finetune stage"),
        ),
        ("misfit", ("{'name': 's3d'}", "{'name': 'tiny', 'width': 16}", "set the same backbone in both")),
        ("damaged", ("none of the checkpoints", "steps 4, 2", "redo the stage from its beginning with force=")),
        (
            "short",
            ("no video is long enough for clips of 640 frames", "the longest has 22", "a smaller data.num_frames"),
        ),
        ("flow", ("needs OpenCV", "pip install 'vssl[flow]'")),
        ("below", ("because flow failed",)),
    ],
)
def test_a_stage_that_cannot_work_says_why(
    stage: str, says: tuple[str, ...], failed: tuple[int, str, Plan, Store]
) -> None:
    code, said, plan, store = failed
    assert code == FAILED
    print(said)
    for words in says:
        assert words in said
    folder = store.stage(plan[stage].folder)
    assert not folder.done.exists()
    assert not folder.result.exists()
    if stage != "below":
        attempt = newest(folder)
        assert attempt is not None
        assert attempt["outcome"] == "failed"
        assert all(words in attempt["error"] for words in says)
    else:
        assert not folder.root.exists()


def test_failed_stages_leave_no_artifact_and_nothing_aside(failed: tuple[int, str, Plan, Store]) -> None:
    store = failed[3]
    left = snapshot(store.root / "stages")
    assert [path for path in left if "/artifacts/" in path] == []
    assert [path for path in left if path.endswith(".tmp")] == []


@pytest.mark.parametrize(
    "row",
    [
        Row(
            "only: unfinished parent",
            LINE + "only=linear-rgb",
            ("linear-rgb needs single-rgb", "neither finished nor selected", "from=single-rgb"),
        ),
        Row(
            "debug: unfinished parent",
            LINE.replace("local", "debug") + "only=linear-rgb",
            ("linear-rgb was not started", "no completion record", "run the parent first"),
            code=REFUSED,
        ),
    ],
    ids=lambda row: row.id,
)
def test_a_parent_that_is_not_finished(
    row: Row,
    failed: tuple[int, str, Plan, Store],
    tiny_videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = Row(row.id, "sweep=vicc_single " + row.words, row.says, code=row.code)
    trying(tmp_path, monkeypatch, capfd)(words, failed[3].root, videos=tiny_videos, store=failed[3].root)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "no space left under .*free some, or choose another store with root=FOLDER"),
        (errno.EDQUOT, "no space left under"),
        (errno.EROFS, "cannot write .*Read-only file system; choose another store with root=FOLDER or VSSL_ROOT"),
    ],
)
def test_a_root_that_cannot_be_written(
    number: int, says: str, failed: tuple[int, str, Plan, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, plan, store = failed

    def refuse(source: object, target: object) -> None:
        raise OSError(number, os.strerror(number), str(target))

    before = {path: digest for path, digest in snapshot(store.root).items() if digest != "folder"}
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(local.ConfigError, match=says):
        local.execute(plan, ["short"], Store(store.root, read=(store.root / "x",), visibility_s=0), track=False)
    assert {path: digest for path, digest in snapshot(store.root).items() if digest != "folder"} == before


def test_a_stage_that_fills_the_disk_says_so_and_goes_on_when_there_is_room(
    chain: Plan,
    store: Store,
    run_stage: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def full(path: Path, value: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("vssl.stages.probe.write_json", full)
        assert run_stage(chain, "first") == FAILED
    attempt = newest(store.stage(chain["first"].folder))
    assert attempt is not None
    assert "no space left under" in attempt["error"]
    assert "the same line goes on" in attempt["error"]
    assert "no space left under" in capfd.readouterr().err
    assert run_stage(chain, "first") == DONE
    assert read_json(store.stage(chain["first"].folder).done)["attempts"] == 2


def test_an_error_of_any_sort_while_writing_leaves_the_old_file_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")

    def fill(stream: object) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904 - as torch.save does on a full disk

    with pytest.raises(RuntimeError) as caught:
        write_atomic(tmp_path / "x", fill)
    assert is_full(caught.value)
    assert not is_full(RuntimeError("unexpected pos"))
    assert snapshot(tmp_path).keys() == {"x"}
    assert (tmp_path / "x").read_bytes() == b"old"
