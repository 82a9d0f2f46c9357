"""Whole videos in chunks: every frame of the file, after its context, whoever reads it."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.frame_sources import phases_source
from vssl.config import build
from vssl.data import whole_videos
from vssl.data.clips import ClipDataset
from vssl.data.dataset_config import EvaluationClipsConfig
from vssl.data.decode import Frames, all_frames
from vssl.data.sampling.long import chunks
from vssl.data.sampling.samplers import Long
from vssl.data.views.augment import normalise
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.long_views import evaluation_frames
from vssl.data.views.view_makers import view_for_testing
from vssl.data.whole_videos import frame_chunks

SIDE, CONTEXT, STRIDE, CHUNK = 32, 2, 3, 7


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ClipDataset:
    """Two videos, whose frames are each read after one that lies 3 frames back."""
    source = phases_source(tmp_path_factory.mktemp("phases"), videos_train=2, videos_val=2)
    sampling = {"name": "long", "num_context_frames": CONTEXT, "context_stride": STRIDE}
    config = build(EvaluationClipsConfig, {"dataset": {"name": "p"}, "num_frames": 8, "sampling": sampling})
    view = view_for_testing(TestViewConfig(), 1)
    return ClipDataset(config, "val", dataset=source, motion=None, seed=0, view=view)


def whole(dataset: ClipDataset, workers: int) -> list[Tensor]:
    """(3, T * context, S, S) of each video, put together from its chunks."""
    assert isinstance(dataset.sampler, Long)
    videos: list[list[Tensor]] = [[] for _ in range(len(dataset))]
    for chunk in frame_chunks(
        dataset, range(len(dataset)), dataset.sampler, chunk=CHUNK, side=SIDE, centre_crop=0, workers=workers,
        prefetch=2, device=torch.device("cpu"),
    ):  # fmt: skip
        videos[chunk.index].append(chunk.frames)
        read = sum(part.shape[1] for part in videos[chunk.index])
        assert chunk.is_last == (read == CONTEXT * dataset.total(chunk.index))
    return [torch.cat(parts, dim=1) for parts in videos]


def expected(dataset: ClipDataset, index: int) -> Tensor:
    """The same of one decode of the file."""
    path = dataset._videos[index].paths["rgb"]
    frames = torch.stack([torch.from_numpy(frame.copy()) for frame in all_frames(path)])
    earlier = [max(0, number - STRIDE) for number in range(len(frames))]
    both = torch.stack([frames[earlier], frames], dim=1).flatten(0, 1)
    return normalise(evaluation_frames(both, SIDE, 0).transpose(0, 1), dataset.statistics)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_every_frame_comes_after_its_context(
    dataset: ClipDataset, workers: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many chunks are decoded at a time, for which memory for all of their frames is there, or for none."""
    monkeypatch.setattr(whole_videos, "_BYTES_AT_ONCE", 3 * SIDE**2 * CONTEXT * CHUNK * at_once - (at_once == 1))
    for index, frames in enumerate(whole(dataset, workers)):
        assert torch.equal(frames, expected(dataset, index))


def test_a_file_is_decoded_once_where_its_frames_fit_into_memory(
    dataset: ClipDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, calls = dataset.frames, []

    def counted(index: int, wanted: Sequence[int]) -> Frames:
        calls.append(index)
        return frames(index, wanted)

    monkeypatch.setattr(dataset, "frames", counted)
    whole(dataset, workers=0)
    assert calls == [0, 1]
    calls.clear()
    monkeypatch.setattr(whole_videos, "_BYTES_AT_ONCE", 0)
    whole(dataset, workers=0)
    assert len(calls) == sum(len(chunks(dataset.total(index), CHUNK)) for index in range(2))
