"""A stage that is killed anywhere and started again ends with the same bits as one that was left alone.

A kill is an exception that nothing catches, raised just before a step boundary or a durable operation. Nothing outlives
a stage but its files, so a kill after one operation leaves what a kill before the next one leaves: the points below are
all there are, but for a journal line cut in the middle, which is tried too. Real SIGKILLs are tried elsewhere.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny_stages import (
    EPOCH_STEPS,
    SAVE_EVERY,
    STEPS,
    Stage,
    final_state,
    fingerprint,
    history,
    make_stages,
    runtime,
)
from vssl import artifacts, checkpoint, run
from vssl.config import build
from vssl.data import clips
from vssl.run import Run, StageError, Stopped
from vssl.stages import classification, pretrain
from vssl.stages.runtime_config import RuntimeConfig

DURABLE = ("fsync", "replace", "link", "write", "ftruncate")


class Killed(BaseException):
    pass


class Points:
    """Counts the points that a run passes, and kills it at one of them."""

    def __init__(self, kill_at: int = -1, *, torn: bool = False) -> None:
        self.names: list[str] = []
        self.kill_at, self.torn = kill_at, torn
        self.steps = 0

    def reach(self, name: str) -> bool:
        """True where the operation is to be cut in the middle."""
        here = len(self.names) == self.kill_at
        self.names.append(name)
        if here and not (self.torn and name == "write"):
            raise Killed(name)
        return here

    def wrap(self, name: str) -> Callable[..., Any]:
        # nothing here loses power, so syncing is counted and not waited for
        original = getattr(os, name) if name != "fsync" else lambda descriptor: None

        def operation(*arguments: Any) -> Any:
            if self.reach(name):
                descriptor, data = arguments
                original(descriptor, data[: len(data) // 2])
                raise Killed("in the middle of a write")
            return original(*arguments)

        return operation


class _Os:
    """The module os, with the durable operations counted."""

    def __init__(self, points: Points) -> None:
        for name in DURABLE:
            setattr(self, name, points.wrap(name))

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


@contextmanager
def watched(points: Points) -> Iterator[type[Run]]:
    """A class of runs whose every step boundary and durable operation is a point."""

    class WatchedRun(Run):
        def log(self, step: int, values: Any) -> None:
            points.reach("log")
            points.steps += 1
            super().log(step, values)

        def should_stop(self) -> bool:
            points.reach("should_stop")
            return super().should_stop()

    unlink = Path.unlink

    def counted_unlink(path: Path, missing_ok: bool = False) -> None:
        points.reach("unlink")
        unlink(path, missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        for module in (artifacts, run):
            patch.setattr(module, "os", _Os(points))
        patch.setattr(Path, "unlink", counted_unlink)
        yield WatchedRun


@pytest.fixture(scope="module", autouse=True)
def _fast() -> Iterator[None]:
    """Each frame is decoded once, and pictures are not drawn: neither is what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        read = clips.read_frames

        @cache
        def cached(path: Path, indices: tuple[int, ...], seekable: bool) -> np.ndarray:
            return read(path, indices, seekable=seekable)

        patch.setattr(
            clips, "read_frames", lambda path, i, *, seekable=True, short_side=0: cached(path, tuple(i), seekable)
        )
        patch.setattr(pretrain, "plot", lambda *_: None)
        patch.setattr(classification, "plot", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory, _fast: None) -> dict[str, Stage]:
    return make_stages(tmp_path_factory.mktemp("parents"))


@pytest.fixture(scope="module")
def calm(
    stages: dict[str, Stage], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[dict[str, Any], dict[str, float], list[str]]]:
    """(what must be equal, metrics, names of the points) of an uninterrupted run."""

    @lru_cache
    def of(kind: str) -> tuple[dict[str, Any], dict[str, float], list[str]]:
        root, points = tmp_path_factory.mktemp("calm"), Points()
        with watched(points) as run_class:
            metrics = stages[kind].execute(root, run_class)
        return fingerprint(root / stages[kind].name), metrics, points.names

    return of


def with_workers(stage: Stage, workers: int) -> Stage:
    return replace(stage, config=replace(stage.config, runtime=build(RuntimeConfig, runtime(workers=workers))))


def last_saved(folder: Path) -> int:
    return max((int(path.stem) for path in (folder / "checkpoints").glob("*.json")), default=0)


def kill_and_finish(stage: Stage, root: Path, points: Points) -> dict[str, float]:
    with pytest.raises(Killed), watched(points) as run_class:
        stage.execute(root, run_class)
    saved = last_saved(root / stage.name)
    again = Points()
    with watched(again) as run_class:
        metrics = stage.execute(root, run_class)
    assert again.steps == STEPS - saved, "a resumed stage repeats only what no checkpoint holds"
    return metrics


@pytest.mark.parametrize(
    "kind", ["single", "cross", "memory", "frames", "masked", "images", "linear", "finetune", "transformer"]
)
def test_point_15_killed_at_every_point_and_resumed_is_bit_equal(kind, stages, calm, tmp_path):
    expected, metrics, names = calm(kind)
    assert names.count("log") == STEPS
    assert names.count("replace") >= 2 * (STEPS // SAVE_EVERY) + 1  # checkpoints with manifests, and the artifacts
    # what makes the others' files and turns their loop is walked through once; these have states of their own
    every = {"finetune": 5, "memory": 5, "frames": 5, "masked": 23, "images": 3, "transformer": 11}.get(kind, 1)
    for number, name in [*enumerate(names)][::every]:
        root = tmp_path / str(number)
        assert kill_and_finish(stages[kind], root, Points(number)) == metrics, f"point {number}: {name}"
        assert fingerprint(root / stages[kind].name) == expected, f"point {number}: {name}"


def test_carl_point_12_a_resumed_run_goes_on_with_the_curve_of_an_uninterrupted_one(stages, calm, tmp_path):
    """Stopped after its first epoch, where the original begins its cosine anew and repeats the epoch."""
    expected, _, _ = calm("frames")
    stage, folder = stages["frames"], tmp_path / stages["frames"].name
    with pytest.raises(Stopped, match=f"step {EPOCH_STEPS} of {STEPS}"):
        stage.execute(tmp_path, stop_requested=lambda: len(history(folder)) == EPOCH_STEPS)
    stage.execute(tmp_path)
    epochs = STEPS // EPOCH_STEPS
    curve = [1e-4 / 2 * (1 + math.cos(math.pi * epoch / (epochs + 1))) for epoch in range(epochs)]
    assert [row["lr"] for _, row in history(folder)] == pytest.approx(np.repeat(curve, EPOCH_STEPS), rel=1e-12)
    assert fingerprint(folder) == expected  # losses and rates of every step, and the weights


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_resumes_with_its_scaler(amp, stages, tmp_path):
    """The original stores the state of its half precision and does not read it again."""
    stage = stages["cross"]
    stage = replace(stage, config=replace(stage.config, runtime=build(RuntimeConfig, runtime(amp=amp))))
    points = Points()
    with watched(points) as run_class:
        metrics = stage.execute(tmp_path / "calm", run_class)
    expected = fingerprint(tmp_path / "calm" / stage.name)
    number = [place for place, name in enumerate(points.names) if name == "log"][3]  # in the middle of an epoch
    assert kill_and_finish(stage, tmp_path / "killed", Points(number)) == metrics
    assert fingerprint(tmp_path / "killed" / stage.name) == expected
    assert bool(final_state(tmp_path / "killed" / stage.name)["scaler"]) == (amp == "fp16")


def test_a_gradient_that_overflows_skips_a_step_and_says_so(stages, tmp_path, capsys, monkeypatch):
    """The original stops there with an error. Killed in between, the count and the scale are the same."""
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**127))
    stage = stages["frames"]
    runtimes = runtime(amp="fp16")
    stage = replace(stage, config=replace(stage.config, epochs=2, runtime=build(RuntimeConfig, runtimes)))
    points = Points()
    with watched(points) as run_class:
        metrics = stage.execute(tmp_path / "calm", run_class)
    rows = [values for _, values in history(tmp_path / "calm" / stage.name)]
    skipped = [values["skipped"] for values in rows]
    assert ["grad_norm" not in values for values in rows] == [bool(one) for one in skipped]
    assert metrics["skipped_steps"] == sum(skipped) > 0
    assert capsys.readouterr().out.count("no update, and the loss is scaled by") == sum(skipped)
    number = [place for place, name in enumerate(points.names) if name == "log"][3]
    assert kill_and_finish(stage, tmp_path / "killed", Points(number)) == metrics
    assert fingerprint(tmp_path / "killed" / stage.name) == fingerprint(tmp_path / "calm" / stage.name)


def test_a_journal_line_cut_in_the_middle_is_written_again(stages, calm, tmp_path):
    expected, _, names = calm("single")
    for number in (number for number, name in enumerate(names) if name == "write"):
        root = tmp_path / str(number)
        kill_and_finish(stages["single"], root, Points(number, torn=True))
        assert fingerprint(root / "pretrain-rgb") == expected


@pytest.mark.parametrize("kind", ["single", "cross", "linear", "finetune"])
def test_resume_is_bit_equal_with_loader_processes(kind, stages, calm, tmp_path):
    expected, metrics, names = calm(kind)
    stage = with_workers(stages[kind], 2)
    logs = [number for number, name in enumerate(names) if name == "log"]
    for number in (logs[1], logs[3] + 2, logs[5]):  # mid-epoch, after an epoch's end, before the last save
        root = tmp_path / str(number)
        assert kill_and_finish(stage, root, Points(number)) == metrics
        assert fingerprint(root / stage.name) == expected


def test_killed_again_and_again(stages, calm, tmp_path):
    expected, metrics, names = calm("cross")
    stage, found = stages["cross"], None
    for number in [5, 1, 17, 3, 30, 9, 2, 25, 12, 40] + [len(names)]:
        try:
            with watched(Points(number)) as run_class:
                found = stage.execute(tmp_path, run_class)
                break
        except Killed:
            continue
    assert found == metrics
    assert fingerprint(tmp_path / stage.name) == expected


@pytest.mark.parametrize("stop_at", range(1, STEPS + 1))
@pytest.mark.parametrize("kind", ["single", "memory"])
def test_a_stop_between_any_two_steps_saves_and_loses_nothing(kind, stop_at, stages, calm, tmp_path):
    expected, metrics, _ = calm(kind)
    folder = tmp_path / stages[kind].name

    with pytest.raises(Stopped, match=f"step {stop_at} of {STEPS}"):
        stages[kind].execute(tmp_path, stop_requested=lambda: len(history(folder)) == stop_at)
    assert last_saved(folder) == stop_at
    assert stages[kind].execute(tmp_path) == metrics
    assert fingerprint(folder) == expected


@pytest.fixture
def finished(stages: dict[str, Stage], tmp_path: Path) -> Path:
    stages["single"].execute(tmp_path)
    return tmp_path / "pretrain-rgb" / "checkpoints"


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_passed_over_loudly(damage, stages, calm, finished, tmp_path, capsys):
    newest = finished / f"{STEPS}.pt"
    if damage is None:
        newest.unlink()
    else:
        newest.write_bytes(damage)
    stages["single"].execute(tmp_path)
    assert f"WARNING: checkpoint {STEPS} of pretrain-rgb is damaged" in capsys.readouterr().out
    assert fingerprint(tmp_path / "pretrain-rgb") == calm("single")[0]


def test_one_flipped_bit_is_noticed(stages, calm, finished, tmp_path, capsys):
    newest = finished / f"{STEPS}.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    stages["single"].execute(tmp_path)
    assert "has changed since it was written" in capsys.readouterr().out
    assert fingerprint(tmp_path / "pretrain-rgb") == calm("single")[0]


def test_no_readable_checkpoint_is_an_error_and_not_a_fresh_start(stages, finished, tmp_path):
    for path in finished.glob("*.pt"):
        path.write_bytes(b"")
    with pytest.raises(StageError, match=r"none of the checkpoints .* force="):
        stages["single"].execute(tmp_path)


def test_a_checkpoint_of_another_config_is_refused(stages, finished, tmp_path):
    other = replace(stages["single"], config=replace(stages["single"].config, seed=77))
    with pytest.raises(StageError, match=r"was made with config and inputs .* force="):
        other.execute(tmp_path)


def test_what_does_not_change_a_result_may_change_between_attempts(stages, calm, tmp_path):
    with pytest.raises(Killed), watched(Points(20)) as run_class:
        stages["single"].execute(tmp_path, run_class)
    with_workers(stages["single"], 1).execute(tmp_path)
    assert fingerprint(tmp_path / "pretrain-rgb") == calm("single")[0]


def test_the_last_two_checkpoints_are_kept_and_nothing_else(finished):
    steps = (STEPS - SAVE_EVERY, STEPS)
    assert sorted(path.name for path in finished.iterdir()) == sorted(f"{s}.{x}" for s in steps for x in ("pt", "json"))


def test_an_attempt_that_was_superseded_writes_nothing_more(stages, tmp_path):
    folder = tmp_path / "pretrain-rgb"
    with pytest.raises(StageError, match="newer attempt"):
        stages["single"].execute(tmp_path, owns=lambda: len(history(folder)) < 3)
    assert last_saved(folder) == 2
    assert checkpoint.KEPT == 2


def test_a_loss_that_is_not_finite_names_step_and_learning_rate(stages, tmp_path):
    stage = stages["linear"]
    wild = replace(stage, config=replace(stage.config, optim=replace(stage.config.optim, base_lr=1e38)))
    with pytest.raises(StageError, match=r"the loss is (nan|inf) at step \d with learning rate 1e\+38; lower"):
        wild.execute(tmp_path)
