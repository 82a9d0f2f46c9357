"""The alignment stage: what is exported, that it does not depend on chunks and ranks, and what its warp is worth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from tests import miniatures
from tests.frame_sources import labelled_source, phases_source
from tests.gloo import run_ranks
from vssl.artifacts import Artifact, StageFolder, read_json
from vssl.config import ConfigError, build
from vssl.methods.carl import FrameEncoder
from vssl.run import Run, StageError, Stopped
from vssl.stages import alignment, pretrain
from vssl.stages.alignment_config import AlignmentConfig
from vssl.stages.pretrain_config import PretrainConfig

EMBEDDER = {
    "name": "transformer", "positions": False, "layers": 1, "dim": 16, "heads": 2, "ff_dim": 32, "fc_dims": [32, 32],
    "embedding_dim": 16,
}  # fmt: skip
BACKBONE = {"name": "tiny_frames", "width": 4}
DATA = {"dataset": {"name": "p"}, "num_frames": 24, "crop_size": 32, "sampling": {"name": "long"}}
PHASES, PRETRAINING_SEED = 4, 31


def aligning(**changes: Any) -> AlignmentConfig:
    given = {
        "backbone": BACKBONE, "embedder": EMBEDDER, "data": DATA | {"test_split": "val"}, "centre_crop": 0,
        "stride": 2, "block": 16, "runtime": {"threads": 1, "device": "cpu"},
    }  # fmt: skip
    return build(AlignmentConfig, given | changes)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return phases_source(tmp_path_factory.mktemp("phases"), phases=PHASES)


@pytest.fixture(scope="module")
def actions(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """PennAction in miniature: of three actions one is in both splits, in a video of six frames each."""
    root = tmp_path_factory.mktemp("actions")
    return labelled_source(root, path=str(miniatures.penn_action(root / "penn_action")))


def run_in(folder: Path, function: Callable[..., Any], config: Any, inputs: Any, **arguments: Any) -> dict[str, float]:
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, float] = function(config, inputs, Run(StageFolder(folder), **arguments))
    return found


@pytest.fixture(scope="module")
def trained(dataset: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an alignment of a network that learned for half a minute's worth of steps."""
    root = tmp_path_factory.mktemp("trained")
    method = {"name": "carl", "frozen_layers": 0, "recompute": False, "embedder": EMBEDDER, "proj_dim": 8}
    views = {"name": "sequence", "flip_probability": 0.0, "jitter": [0.4, 0.4, 0.4, 0.1], "blur_probability": 0.0}
    config = build(
        PretrainConfig,
        {
            "seed": PRETRAINING_SEED, "epochs": 30, "global_batch_size": 2, "backbone": BACKBONE, "data": DATA,
            "method": method, "augment": views, "optim": {"name": "adam", "base_lr": 0.005, "clip_norm": 10.0},
            "schedule": {"name": "open_cosine"}, "runtime": {"threads": 1, "device": "cpu"},
        },
    )  # fmt: skip
    run_in(root / "pretrain", pretrain.run, config, {"dataset": (dataset,)})
    weights = Artifact(
        type="weights", path=root / "pretrain" / "artifacts" / "weights", digest="0" * 64, origin="pretrain"
    )
    run_in(root / "align", alignment.run, aligning(), {"dataset": (dataset,), "weights": (weights,)})
    return root / "align"


@pytest.fixture(scope="module")
def untrained(dataset: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same alignment of the same network before it learned."""
    root = tmp_path_factory.mktemp("untrained")
    run_in(root, alignment.run, aligning(seed=PRETRAINING_SEED), {"dataset": (dataset,)})
    return root


def metrics_of(folder: Path) -> dict[str, float]:
    found: dict[str, float] = read_json(folder / "artifacts" / "metrics")
    return found


def exported(folder: Path, split: str) -> dict[str, dict[str, np.ndarray]]:
    files = sorted((folder / "artifacts" / "features" / split).rglob("*.npz"))
    return {path.stem: dict(np.load(path)) for path in files}


def test_every_frame_is_exported_with_its_label(trained: Path) -> None:
    for split, count in (("train", 8), ("val", 4)):
        videos = exported(trained, split)
        assert len(videos) == count
        for video in videos.values():
            assert video["embeddings"].shape == (len(video["labels"]), 16)
            assert set(video["labels"].tolist()) == set(range(PHASES))


def test_point_14_embeddings_have_length_one_and_come_before_the_projector(trained: Path) -> None:
    for video in exported(trained, "val").values():
        assert video["embeddings"].shape[1] == EMBEDDER["embedding_dim"]  # the projector's output is half as large
        np.testing.assert_allclose(np.linalg.norm(video["embeddings"], axis=1), 1, atol=1e-5)


def test_a_network_that_learned_is_worth_more_than_before(trained: Path, untrained: Path) -> None:
    """By every measure, on videos that it has not seen, without codes of positions and with labels for none."""
    after, before = metrics_of(trained), metrics_of(untrained)
    assert after["kendalls_tau"] > before["kendalls_tau"] + 0.5
    assert after["ap_at_5"] > before["ap_at_5"] + 0.1
    assert after["top1"] > before["top1"] + 0.3
    assert after["progression_r2"] > 0.5 > 0 > before["progression_r2"]


def test_the_warp_lays_phases_over_one_another(trained: Path, untrained: Path) -> None:
    """What the film shows, over all ordered pairs of test videos.

    Far from chance it is whatever the embeddings say, since every warp begins and ends with the videos.
    """
    after, before = metrics_of(trained), metrics_of(untrained)
    assert after["chance_phase_error"] > 0.7
    assert after["warp_phase_error"] < 0.75 * before["warp_phase_error"]
    assert after["warp_phase_error"] < 0.25 * after["chance_phase_error"]


def _on_a_rank(config: dict[str, Any], dataset: Artifact, folder: str) -> int:
    """Embeds its part; rank 0 writes and measures."""
    run_in(Path(folder), alignment.run, aligning(**config), {"dataset": (dataset,)})
    return 0


def test_point_14_two_ranks_embed_what_one_does(actions: Artifact, tmp_path: Path) -> None:
    """Of the one test video rank 0 has none."""
    config = {"tasks": ["classification"], "fractions": [1.0]}
    _on_a_rank(config, actions, str(tmp_path / "one"))
    run_ranks(_on_a_rank, 2, config, actions, str(tmp_path / "two"))
    for split in ("train", "val"):
        one, two = exported(tmp_path / "one", split), exported(tmp_path / "two", split)
        assert list(one) == list(two)
        assert len(one) == (4 if split == "train" else 1)
        for name in one:
            np.testing.assert_allclose(two[name]["embeddings"], one[name]["embeddings"], atol=1e-6)
    assert metrics_of(tmp_path / "two") == pytest.approx(metrics_of(tmp_path / "one"), abs=1e-6)


def test_measures_and_pictures(trained: Path) -> None:
    metrics = metrics_of(trained)
    assert all(np.isfinite(value) for value in metrics.values())
    assert {"kendalls_tau", "ap_at_5", "chance_ap", "top1", "chance_top1", "progression_r2"} <= set(metrics)
    assert metrics["frames"] == sum(
        len(video["labels"]) for split in ("train", "val") for video in exported(trained, split).values()
    )
    names = {path.name for path in (trained / "artifacts" / "plots").iterdir()}
    assert names == {"alignment.mp4", "similarity.png", "trajectories.png"}


def test_chunks_do_not_show(dataset: Artifact, tmp_path: Path) -> None:
    """An untrained network's embeddings, whatever goes through it at a time; a limited view of time does show."""
    inputs = {"dataset": (dataset,)}
    embeddings = {}
    for name, changes in (("a", {"block": 16}), ("b", {"block": 7}), ("c", {"sequence": 10})):
        run_in(tmp_path / name, alignment.run, aligning(tasks=["tau"], **changes), inputs)
        embeddings[name] = np.concatenate([v["embeddings"] for v in exported(tmp_path / name, "val").values()])
    np.testing.assert_allclose(embeddings["a"], embeddings["b"], atol=1e-5)
    assert np.abs(embeddings["a"] - embeddings["c"]).max() > 1e-3


def test_actions_are_measured_by_themselves_and_averaged(dataset: Artifact, tmp_path: Path) -> None:
    config = aligning(by_action=True, fractions=[1.0], tasks=["tau", "probe"], probe_epochs=3, probe_lr=1.0)
    metrics = run_in(tmp_path / "a", alignment.run, config, {"dataset": (dataset,)})
    assert metrics["kendalls_tau_pouring"] == metrics["kendalls_tau"]
    assert metrics["top1"] == metrics["top1_at_1"]


def test_videos_of_other_actions_are_not_embedded(actions: Artifact, tmp_path: Path) -> None:
    config = aligning(actions=["pullup"], tasks=["classification"], fractions=[1.0])
    metrics = run_in(tmp_path, alignment.run, config, {"dataset": (actions,)})
    assert {split: list(exported(tmp_path, split)) for split in ("train", "val")} == {
        "train": ["0300_pullup.mp4"],
        "val": ["0400_pullup.mp4"],
    }
    assert (metrics["train_videos"], metrics["test_videos"], metrics["frames"]) == (1, 1, 12)


def test_an_action_that_is_not_there_is_refused_before_anything_is_embedded(actions: Artifact, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="did you mean `pullup`"):
        run_in(tmp_path, alignment.run, aligning(actions=["pulup"]), {"dataset": (actions,)})
    assert not exported(tmp_path, "train")


def test_a_stopped_evaluation_goes_on_with_the_videos_that_remain(
    actions: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the same bytes; a stop within a video, after some that are finished, loses that video alone."""
    config = aligning(tasks=["classification"], fractions=[1.0], block=4)  # videos of 6 and 12 frames
    fed: list[int] = []
    features = FrameEncoder.features

    def counted(encoder: FrameEncoder, frames: Tensor) -> Tensor:
        fed.append(frames.shape[2])
        return features(encoder, frames)

    monkeypatch.setattr(FrameEncoder, "features", counted)
    metrics = run_in(tmp_path / "whole", alignment.run, config, {"dataset": (actions,)})
    frames, fed[:] = sum(fed), []
    stopped, whole = (tmp_path / name / "artifacts" / "features" for name in ("stopped", "whole"))

    def has_begun_another() -> bool:
        """Once a video is finished, at the next chunk."""
        finished = [*stopped.rglob("*.npz")]
        return bool(finished) and sum(fed) > sum(len(np.load(path)["labels"]) for path in finished)

    with pytest.raises(Stopped, match="embedding of train: 1 of 4 videos are done and kept"):
        run_in(tmp_path / "stopped", alignment.run, config, {"dataset": (actions,)}, stop_requested=has_begun_another)
    (kept,) = stopped.rglob("*.npz")
    written, fed[:] = kept.stat().st_mtime_ns, []
    (kept.parent / ".of-a-killed-process.tmp").touch()
    assert run_in(tmp_path / "stopped", alignment.run, config, {"dataset": (actions,)}) == metrics
    assert "1 of 4 videos of train are embedded already" in capsys.readouterr().out
    assert sum(fed) == frames - len(np.load(kept)["labels"])
    assert kept.stat().st_mtime_ns == written
    names = [{path.relative_to(tree): path.read_bytes() for path in tree.rglob("*.*")} for tree in (whole, stopped)]
    assert names[0] == names[1]
    assert len(names[0]) == 5


def test_what_cannot_be_evaluated_is_refused() -> None:
    for changes, word in (
        ({"backbone": {"name": "tiny"}}, "sees clips"),
        ({"data": {"dataset": {"name": "p"}}}, "set it to long"),
        ({"tasks": ["classification", "probe"]}, "keep one"),
        ({"fractions": []}, "each need a value"),
        ({"data": DATA | {"sampling": {"name": "long", "num_context_frames": 2}}}, "set it to 1, or take an embedder"),
    ):
        with pytest.raises(ConfigError, match=word):
            aligning(**changes)
