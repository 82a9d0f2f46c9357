"""TCC on batches of one class: killed and resumed it is the same, and videos of one class alone are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.frame_sources import phases_source
from tests.tiny_source import make_source
from tests.tiny_stages import Stage, fingerprint, framing, history
from vssl.config import ConfigError
from vssl.run import Stopped
from vssl.stages import pretrain

METHOD = {
    "name": "carl", "objective": "tcc", "videos_per_loss": 2, "one_class_per_loss": True, "unit_embeddings": False,
    "embedder": {"name": "frame", "fc_dims": [8, 8], "embedding_dim": 6}, "block": 2,
}  # fmt: skip


def test_stopped_within_an_epoch_it_goes_on_with_the_same_groups(tmp_path: Path) -> None:
    dataset, _ = make_source(tmp_path, train=8, test=2)
    config = framing(method=METHOD, augment={"name": "sequence", "num_views": 1}, global_batch_size=4)
    stage = Stage(pretrain.run, config, {"dataset": (dataset,)}, "grouped")
    calm, stopped = tmp_path / "calm", tmp_path / "stopped"
    metrics = stage.execute(calm)
    with pytest.raises(Stopped, match="step 3 of 4"):
        stage.execute(stopped, stop_requested=lambda: len(history(stopped / "grouped")) == 3)
    assert stage.execute(stopped) == metrics
    assert fingerprint(stopped / "grouped") == fingerprint(calm / "grouped")


def test_videos_of_one_process_have_no_classes_to_be_grouped_by(tmp_path: Path) -> None:
    dataset = phases_source(tmp_path, phases=2, videos_train=4, videos_val=2, frames=[16, 20])
    config = framing(method=METHOD, augment={"name": "sequence", "num_views": 1})
    stage = Stage(pretrain.run, config, {"dataset": (dataset,)}, "grouped")
    with pytest.raises(ConfigError, match="the class pouring alone; set it to false"):
        stage.execute(tmp_path)
    free = replace(config, method=replace(config.method, one_class_per_loss=False))
    assert replace(stage, config=free, name="free").execute(tmp_path)["videos"] == 4
