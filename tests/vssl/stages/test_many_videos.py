"""Stages that work on every video of a dataset: stopped, killed, doubled, in shards, on a full disk; the same bytes."""

import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from vssl.artifacts import Artifact, StageFolder, digest
from vssl.config import build
from vssl.data import space, transcode
from vssl.data.clips import ClipDataset
from vssl.data.dataset_config import ClipsConfig
from vssl.data.decode import inspect, read_frames, write_video
from vssl.data.manifest import in_split, load_source
from vssl.data.sampling.samplers import VideoClips
from vssl.data.shards import share_of
from vssl.data.views.augment_config import TwoViewAugmentConfig
from vssl.data.views.drawn import DrawnView, Streams, TwoView
from vssl.run import Run, StageError, Stopped
from vssl.stages import flow as flow_stage
from vssl.stages import transcode as transcode_stage
from vssl.stages.flow_config import FlowConfig
from vssl.stages.transcode_config import TranscodeConfig

VIDEOS = 12  # of the prepared source
DATA = {"dataset": {"name": "tiny", "path": "/videos"}}


@dataclass(frozen=True)
class Kind:
    function: Callable[..., dict[str, float]]
    config: Any
    artifact: str

    def run(self, folder: Path, source: Artifact, *, parts: tuple[Artifact, ...] = (), **changes: Any) -> str:
        """Run, or go on; the digest of what it made."""
        stop = changes.pop("stop_requested", lambda: False)
        config = build(type(self.config), {**_plain(self.config), **changes})
        folder.mkdir(exist_ok=True)
        self.function(config, {"dataset": (source,), "parts": parts}, Run(StageFolder(folder), stop_requested=stop))
        return digest(self.tree(folder))[0]

    def tree(self, folder: Path) -> Path:
        return StageFolder(folder).artifacts / self.artifact

    def files(self, folder: Path) -> list[Path]:
        return sorted(path for path in self.tree(folder).rglob("*.m*") if path.suffix in (".mp4", ".mkv"))


def _plain(config: Any) -> dict[str, Any]:
    keys = {TranscodeConfig: ("short_side", "preset"), FlowConfig: ("algorithm",)}[type(config)]
    return {"data": DATA, **{key: getattr(config, key) for key in keys}}


KINDS = {
    "transcode": Kind(
        transcode_stage.run,
        build(TranscodeConfig, {"short_side": 16, "preset": "ultrafast", "data": DATA}),
        "videos",
    ),
    "flow": Kind(flow_stage.run, build(FlowConfig, {"algorithm": "farneback", "data": DATA}), "flow"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def calm(prepared_source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digest of what each kind makes when nothing comes in between."""
    root = tmp_path_factory.mktemp("calm")
    return {kind.artifact: kind.run(root / name, prepared_source) for name, kind in KINDS.items()}


def source_copy(source: Artifact, folder: Path) -> Artifact:
    """The same dataset in a folder of its own, whose videos may be spoilt."""
    root = load_source(source.path).root
    shutil.copytree(root, folder / "videos")
    shutil.copytree(source.path, folder / "source")
    record = folder / "source" / "source.json"
    record.write_text(record.read_text().replace(str(root), str(folder / "videos")))
    return replace(source, path=folder / "source")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_stage_goes_on_where_it_was(
    kind: Kind, workers: int, prepared_source: Artifact, calm: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(Stopped, match="done and kept"):
        kind.run(
            tmp_path, prepared_source, stop_requested=lambda: len(kind.files(tmp_path)) >= 3,
            runtime={"workers": workers},
        )  # fmt: skip
    done = {path: path.stat().st_mtime_ns for path in kind.files(tmp_path)}
    assert 3 <= len(done) < VIDEOS
    assert not (kind.tree(tmp_path) / "manifest.parquet").exists()
    (next(iter(done)).parent / ".half.tmp").write_bytes(b"left by a killed attempt")
    assert kind.run(tmp_path, prepared_source, runtime={"workers": workers}) == calm[kind.artifact]
    assert all(path.stat().st_mtime_ns == written for path, written in done.items())
    assert not list(kind.tree(tmp_path).rglob("*.tmp"))


def test_a_stage_that_is_killed_again_and_again_ends_with_the_same_bytes(
    kind: Kind, prepared_source: Artifact, calm: dict[str, str], tmp_path: Path
) -> None:
    rng, kills = random.Random(0), 0
    arguments = {"runtime": {"workers": 1}}
    while True:
        process = multiprocessing.get_context("fork").Process(
            target=kind.run, args=(tmp_path, prepared_source), kwargs=arguments
        )
        before = len(kind.files(tmp_path))
        process.start()
        while process.is_alive() and (kills == 4 or len(kind.files(tmp_path)) <= before + 1):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        kills += 1
    assert kills >= 2
    assert digest(kind.tree(tmp_path))[0] == calm[kind.artifact]
    assert not list(kind.tree(tmp_path).rglob("*.tmp"))


def test_two_at_once_do_not_disturb_one_another(
    kind: Kind, prepared_source: Artifact, calm: dict[str, str], tmp_path: Path
) -> None:
    both = [
        multiprocessing.get_context("fork").Process(
            target=kind.run, args=(tmp_path, prepared_source), kwargs={"runtime": {"workers": 1}}
        )
        for _ in range(2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert digest(kind.tree(tmp_path))[0] == calm[kind.artifact]


def test_shards_share_the_work_and_leave_no_trace_in_the_whole(
    kind: Kind, prepared_source: Artifact, calm: dict[str, str], tmp_path: Path
) -> None:
    parts = []
    for number in (1, 2, 3):
        folder = tmp_path / str(number)
        kind.run(folder, prepared_source, shard=f"{number}/3")
        tree = kind.tree(folder)
        type_ = "dataset" if kind.artifact == "videos" else "flow"
        parts.append(Artifact(type=type_, path=tree, digest=digest(tree)[0], origin=str(number)))
    files = [path for number in (1, 2, 3) for path in kind.files(tmp_path / str(number))]
    assert len(files) == VIDEOS
    assert kind.run(tmp_path / "whole", prepared_source, parts=tuple(parts)) == calm[kind.artifact]
    inodes = {path.stat().st_ino for path in files}
    assert {path.stat().st_ino for path in kind.files(tmp_path / "whole")} == inodes, "second names, no copies"
    assert kind.run(tmp_path / "rest", prepared_source, parts=tuple(parts[:2])) == calm[kind.artifact]


def test_shares_are_even_and_hold_every_video_once() -> None:
    rng = np.random.default_rng(0)
    videos = pd.DataFrame(
        {"video_id": [f"v{n:03}" for n in range(200)], "frames": rng.integers(20, 400, 200), "width": 40, "height": 30}
    )
    shares = [share_of(videos, number, 8) for number in range(1, 9)]
    assert sorted(video for share in shares for video in share["video_id"]) == list(videos["video_id"])
    work = [share["frames"].sum() for share in shares]
    assert max(work) < 1.02 * min(work)
    mixed = videos.sample(frac=1, random_state=1)
    assert set(share_of(mixed, 3, 8)["video_id"]) == set(shares[2]["video_id"]), "the order of rows decides nothing"


@pytest.mark.parametrize("shard", ["0/4", "5/4", "1", "1/0", "one/two"])
def test_a_shard_is_a_number_of_a_number(shard: str) -> None:
    with pytest.raises(ValueError, match="from 1/8 to 8/8"):
        build(FlowConfig, {"data": DATA, "shard": shard})


def test_a_disk_that_is_too_small_is_refused_before_any_work(
    kind: Kind, prepared_source: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda place: free._replace(free=1000))
    with pytest.raises(StageError, match=r"need about .* kB .*1 kB are free.*artifact_root"):
        kind.run(tmp_path, prepared_source)
    assert not kind.files(tmp_path)


def test_a_guess_of_space_gives_way_to_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda place: free._replace(free=2**31))
    said: list[str] = []
    estimate = space.Estimate(tmp_path, pixels=2**34, bits=0.5, say=said.append)
    estimate.begin()
    assert said == [f"about 1.07 GB to be written, 2.15 GB free under {tmp_path}"]
    estimate.wrote(2**29, 2**31)
    with pytest.raises(StageError, match="2 bits a pixel"):
        estimate.wrote(2**29, 2**31)


def test_a_transcoded_dataset_stands_for_its_original(prepared_source: Artifact, tmp_path: Path) -> None:
    kind = KINDS["transcode"]
    kind.run(tmp_path, prepared_source)
    tree = Artifact(type="dataset", path=kind.tree(tmp_path), digest="", origin="transcode")
    old, new = load_source(prepared_source.path), load_source(tree.path)
    same = ["video_id", "label", "split", "group", "frames", "fps", "duration_s"]
    assert new.videos[same].equals(old.videos[same])
    assert (new.name, new.classes) == (old.name, old.classes)
    for row in new.videos.to_dict("records"):
        found = inspect(new.root / row["path"])
        assert (found.frames, found.height, found.width) == (row["frames"], row["height"], row["width"])
        assert (found.height, found.width) == (16, 20)
        assert found.seekable == row["seekable"] is True

    view = _Listener(TwoViewAugmentConfig(), crop_size=16)
    config = build(ClipsConfig, {"dataset": DATA["dataset"], "num_frames": 4, "crop_size": 16})
    for dataset in (prepared_source, tree):
        clips = ClipDataset(config, "train", dataset=dataset, motion=None, seed=1, view=view)
        clips.sample(0, 3)
    assert len(view.drawn) == 2
    assert view.drawn[0] == view.drawn[1], "the same clips of the same video, cropped alike"
    video = new.root / in_split(new, "train")["path"].iloc[0]
    video.write_bytes(video.read_bytes() + b"!")
    with pytest.raises(StageError, match="another size or time"):
        ClipDataset(config, "train", dataset=tree, motion=None, seed=1, view=view).sample(0, 0)


class _Listener(TwoView):
    """Takes note of what is drawn."""

    drawn: ClassVar[list[str]] = []

    def draw(self, streams: Streams, clips: VideoClips) -> Sequence[DrawnView]:
        views = super().draw(streams, clips)
        self.drawn.append(repr(views))
        return views


def test_a_video_that_comes_out_with_fewer_frames_is_left_out_by_name(
    prepared_source: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = source_copy(prepared_source, tmp_path)
    whole = transcode.stored_frames

    def short(path: Path) -> Any:
        frames = list(whole(path))
        return frames[:-1] if path.name == "run 3.mp4" else frames

    monkeypatch.setattr(transcode, "stored_frames", short)
    kind = KINDS["transcode"]
    with pytest.raises(StageError, match=r"1 of 12 videos .*run 3.mp4: 20 of 21 frames decode.*max_broken_share"):
        kind.run(tmp_path / "strict", source)
    generous = {"dataset": {**DATA["dataset"], "max_broken_share": 0.1}}
    kind.run(tmp_path / "stage", source, data=generous)
    made = load_source(kind.tree(tmp_path / "stage"))
    assert len(made.videos) == VIDEOS - 1
    assert "run/run 3.mp4" not in set(made.videos["video_id"])
    assert not (kind.tree(tmp_path / "stage") / "videos/run/run 3.mp4.mp4").exists()
    assert "run/run 3.mp4: 20 of 21 frames decode" in capsys.readouterr().out


def test_an_output_with_another_number_of_frames_is_never_named(
    prepared_source: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count of what was given to the encoder is not trusted: the file is read to its end."""
    monkeypatch.setattr(transcode_stage, "transcode", _LosesOne())
    kind = KINDS["transcode"]
    with pytest.raises(StageError, match=r"12 of 12 videos .* 18 frames became 17"):
        kind.run(tmp_path, prepared_source)
    assert not kind.files(tmp_path)


class _LosesOne:
    def __call__(self, source: Path, path: Path, target: transcode.Target, fps: float) -> int:
        frames = read_frames(source, range(inspect(source).frames))
        write_video(path, frames[:-1], codec="libx264", fps=fps, container="mp4")
        return len(frames)


def test_flow_of_a_broken_video_is_missed_at_the_end_and_not_before(prepared_source: Artifact, tmp_path: Path) -> None:
    source = source_copy(prepared_source, tmp_path)
    videos = load_source(source.path).videos.set_index("video_id")
    name = videos.index[0]
    path = tmp_path / "videos" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 3 :] = bytes(len(content) - len(content) // 3)
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    kind = KINDS["flow"]
    with pytest.raises(StageError, match=f"1 of 12 videos have no optical flow, the first is {name}"):
        kind.run(tmp_path / "stage", source)
    assert len(kind.files(tmp_path / "stage")) == VIDEOS - 1
