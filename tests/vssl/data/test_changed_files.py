"""Files that break, change or vanish after they were prepared: replaced, or named, and never passed over."""

import os
from pathlib import Path

import pytest

from tests.tiny_clips import break_file, clips_of
from vssl.artifacts import Artifact, read_json
from vssl.data.loader import TestLoader, TrainLoader
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.drawn import TestView
from vssl.run import StageError


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_is_replaced_by_the_next_of_the_order(
    own_source: Artifact, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    whole = [name for batch in TrainLoader(clips_of(own_source), 2, seed=0).batches(0) for name in batch["video_ids"]]
    for name in (whole[2], whole[7]):
        break_file(own_source, name)
    loader = TrainLoader(clips_of(own_source), 2, seed=0, workers=workers)
    found = [name for batch in loader.batches(0) for name in batch["video_ids"]]
    loader.close()
    expected = [*whole]
    expected[2], expected[7] = whole[3], whole[0]  # after the last comes the first
    assert found == expected
    assert loader.replaced == [whole[2], whole[7]]
    assert f"{whole[2]} broke during training" in caplog.text
    processes = {"loader process 0", "loader process 1"} if workers else {"the training process"}
    summary = [record.message for record in caplog.records if record.message.endswith("broke")]
    assert summary  # how many broke where, and of how many
    assert {message.split(":")[0] for message in summary} <= processes
    restored = TrainLoader(clips_of(own_source), 2, seed=0)
    restored.replaced = list(loader.replaced)  # as a checkpoint does
    assert [name for batch in restored.batches(0) for name in batch["video_ids"]] == expected
    assert restored.replaced == loader.replaced  # each counted once


def test_an_evaluation_replaces_nothing(own_source: Artifact) -> None:
    dataset = clips_of(own_source, split="test", view=TestView(TestViewConfig(centre_crop=24), 16))
    break_file(own_source, dataset.video_ids[1])
    with pytest.raises(StageError, match=dataset.video_ids[1]):
        list(TestLoader(dataset, 4))


def test_no_video_left_is_an_error(own_source: Artifact) -> None:
    dataset = clips_of(own_source)
    for name in dataset.video_ids:
        break_file(own_source, name)
    with pytest.raises(StageError, match="of 8 videos that could be shown here none decodes"):
        list(TrainLoader(dataset, 2, seed=0).batches(0))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("change", ["touched", "longer", "gone"])
def test_data_that_changed_since_prepare_stops_the_stage(own_source: Artifact, workers: int, change: str) -> None:
    dataset = clips_of(own_source)
    path = Path(read_json(own_source.path / "source.json")["root"]) / dataset.video_ids[3]
    if change == "touched":
        os.utime(path, (1, 1))
    elif change == "longer":
        path.write_bytes(path.read_bytes() + b"\0")
    else:
        path.unlink()
    loader = TrainLoader(dataset, 2, seed=0, workers=workers)
    with pytest.raises(StageError, match=f"data changed since prepare: .*{dataset.video_ids[3]}"):
        list(loader.batches(0))
    loader.close()
