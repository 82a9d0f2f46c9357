"""Images are read as videos of one frame: by the same clips, views and loaders."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests import miniatures
from vssl.artifacts import Artifact
from vssl.data.clips import ClipDataset
from vssl.data.dataset_config import ClipsConfig, DatasetConfig
from vssl.data.decode import read_frames
from vssl.data.loader import TestLoader, TrainLoader
from vssl.data.prepare import prepare
from vssl.data.sampling.sampling_config import DenseConfig, SamplingConfig, SegmentsConfig
from vssl.data.views.augment import normalise
from vssl.data.views.augment_config import ClassifyAugmentConfig, TestViewConfig, TwoViewAugmentConfig
from vssl.data.views.drawn import ClassifyView, TestView, TwoView, ViewMaker
from vssl.run import StageError

ANY_LENGTH = SegmentsConfig()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    root = tmp_path_factory.mktemp("images")
    config = DatasetConfig(name="d", path=str(miniatures.imagenet(root / "data")), layout="image-folders")
    record = prepare(config, root / "sources", lambda _: None)
    return Artifact(type="dataset", path=root / "sources" / config.key(), digest=record["digest"], origin="d")


def clips_of(
    images: Artifact,
    view: ViewMaker,
    *,
    split: str = "train",
    num_frames: int = 1,
    sampling: SamplingConfig = ANY_LENGTH,
) -> ClipDataset:
    dataset = DatasetConfig(name="d", path="/d")
    config = ClipsConfig(dataset=dataset, num_frames=num_frames, crop_size=16, sampling=sampling)
    return ClipDataset(config, split, dataset=images, motion=None, seed=0, view=view)


def test_every_image_is_a_clip_of_one_frame(images: Artifact) -> None:
    whole = clips_of(images, TestView(TestViewConfig(centre_crop=0), 32), split="val")
    for index, video_id in enumerate(whole.video_ids):
        (view,) = whole.sample(0, index)["streams"]["rgb"]
        assert view.shape == (3, 1, 32, 32)
        with Image.open(images.path.parents[1] / "data" / video_id) as image:
            expected = np.asarray(image.convert("RGB"))
        frame = read_frames(images.path.parents[1] / "data" / video_id, [0], seekable=True)[0]
        assert frame.shape == expected.shape
        # libjpeg smooths colour, which is stored at half the size, and FFmpeg does not: brightness is what compares
        brightness = np.array([0.299, 0.587, 0.114])
        assert np.abs(frame @ brightness - expected @ brightness).mean() < 3


@pytest.mark.parametrize("workers", [0, 1])
def test_images_are_trained_on_like_clips(images: Artifact, workers: int) -> None:
    dataset = clips_of(images, ClassifyView(ClassifyAugmentConfig(resize_crop=24), 16))
    loader = TrainLoader(dataset, 2, seed=0, workers=workers)
    batches = list(loader.batches(0))
    loader.close()
    assert sorted(name for batch in batches for name in batch["video_ids"]) == dataset.video_ids
    for batch in batches:
        assert batch["streams"]["rgb"].shape == (2, 1, 3, 1, 16, 16)
        folders = [name.split("/")[1] for name in batch["video_ids"]]
        assert [dataset.classes[label] for label in batch["labels"]] == folders
    pairs = next(TrainLoader(clips_of(images, TwoView(TwoViewAugmentConfig(), 16)), 4, seed=0).batches(0))
    assert pairs["streams"]["rgb"].shape == (4, 2, 3, 1, 16, 16)


def test_images_are_tested_like_clips(images: Artifact) -> None:
    dataset = clips_of(images, TestView(TestViewConfig(centre_crop=24), 16), split="val")
    (batch,) = TestLoader(dataset, 8)
    expected = torch.cat([dataset.sample(0, index)["streams"]["rgb"] for index in range(len(dataset))])
    assert torch.equal(batch["streams"]["rgb"], normalise(expected))
    assert batch["labels"].tolist() == dataset.labels.tolist()


def test_a_longer_clip_of_an_image_stands_still(images: Artifact) -> None:
    dataset = clips_of(images, TestView(TestViewConfig(centre_crop=0), 16), num_frames=5)
    for index in range(len(dataset)):
        (view,) = dataset.sample(0, index)["streams"]["rgb"]
        assert torch.equal(view, view[:, :1].expand(-1, 5, -1, -1))


def test_a_rule_that_needs_more_than_an_image_says_which_does_not(images: Artifact) -> None:
    with pytest.raises(StageError, match=r"the longest has 1 frames; .*data\.sampling\.name=segments"):
        clips_of(images, TestView(TestViewConfig(), 16), sampling=DenseConfig())
