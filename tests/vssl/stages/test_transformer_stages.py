"""Stages of video transformers: views, weights from elsewhere, a step at the published size (card, section 11)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny_stages import Stage, transforming, weights_of
from tests.vicc_steps import at
from vssl.backbones.backbone_config import MViTBConfig, TimeSformerConfig, ViViTConfig
from vssl.backbones.build import build_backbone
from vssl.data.sampling.samplers import VideoClips, build_sampler
from vssl.data.sampling.sampling_config import LinspaceConfig
from vssl.data.views.augment_config import RandomResizedCropAugmentConfig
from vssl.data.views.drawn import finished
from vssl.data.views.rand_augment_config import RandAugmentConfig
from vssl.data.views.view_makers import view_for_pretraining, view_for_training
from vssl.methods.maskfeat import MaskFeat
from vssl.methods.maskfeat_config import MaskFeatConfig
from vssl.methods.supervised import Supervised
from vssl.randomness import stream
from vssl.run import StageError
from vssl.weights import load_weights


@pytest.mark.parametrize("operations", [None, RandAugmentConfig(magnitude=9, probability=1.0, space="torchvision")])
def test_point_13_frames_of_a_clip_are_changed_alike(operations: RandAugmentConfig | None) -> None:
    config = RandomResizedCropAugmentConfig(rand_augment=operations)
    sampler = build_sampler(LinspaceConfig(), 4, 8)
    frame = torch.randint(256, (1, 40, 50, 3), dtype=torch.uint8, generator=stream(0))
    for seed in range(4):
        (view,) = view_for_training(config, 24).draw(
            lambda purpose, seed=seed: stream(seed, purpose), VideoClips(60, 25.0, sampler)
        )
        assert len(view.indices) == 4
        assert 0 <= view.indices.min() <= view.indices.max() <= 59
        assert (view.indices[1:] >= view.indices[:-1]).all()
        clip = finished(view, frame.expand(4, -1, -1, -1), 0)
        assert clip.shape == (3, 4, 24, 24)
        assert all(torch.equal(clip[:, 0], clip[:, number]) for number in range(4))
        if operations:
            assert view.look.jitter is None, "in place of the colour jitter"
    assert type(view_for_pretraining(config, 24)) is type(view_for_training(config, 24))


@pytest.fixture(scope="module")
def trained(root: Path, stages: dict[str, Stage]) -> tuple[Stage, Path]:
    stages["transformer"].execute(root)
    return stages["transformer"], root


@pytest.mark.parametrize("name", ["single", "masked", "frames", "linear", "finetune", "transformer"])
def test_every_stage_shortens_its_gradients_where_asked(
    name: str, stages: dict[str, Stage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clipped(Exception):
        pass

    def clipped(optimizer: torch.optim.Optimizer, limit: float, *, each: bool) -> torch.Tensor:
        raise Clipped(limit, each)

    monkeypatch.setattr("vssl.optim.clip_gradients", clipped)
    config = stages[name].config
    asked = replace(config, optim=replace(config.optim, clip_norm=0.5, clip_by="tensor"))
    with pytest.raises(Clipped) as caught:
        replace(stages[name], config=asked).execute(tmp_path)
    assert caught.value.args == (0.5, True)


def starting(stage: Stage, weights: Any, name: str, **changes: Any) -> Stage:
    return replace(stage, config=transforming(**changes), inputs={**stage.inputs, "weights": tuple(weights)}, name=name)


def test_point_15_a_classifier_of_other_classes_leaves_its_backbone(trained: tuple[Stage, Path]) -> None:
    stage, root = trained
    (own,) = weights_of(root, stage)
    content = torch.load(own.path, weights_only=True)
    content["tensors"]["head.linear.weight"] = torch.zeros(7, 8)
    content["tensors"]["head.linear.bias"] = torch.zeros(7)
    torch.save(content, root / "seven.pt")
    nothing = {"name": "sgd", "base_lr": 0.0}
    again = starting(stage, (replace(own, path=root / "seven.pt"),), "again", optim=nothing)
    again.execute(root)
    found, before = load_weights(weights_of(root, again)[0]), load_weights(own)
    assert found.tensors["head.linear.weight"].shape == (2, 8)
    for name, tensor in before.part("backbone").items():
        assert torch.equal(found.part("backbone")[name], tensor), name


def test_a_network_of_frames_starts_one_of_clips_and_it_is_said(
    trained: tuple[Stage, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    stage, root = trained
    network = {"embed_dim": 8, "depth": 2, "num_heads": 2, "patch_size": 8, "image_size": 16}
    image = starting(
        stage, (), "image",
        backbone={"name": "timesformer", "attention": "space_only", "num_frames": 1} | network,
        data={"dataset": {"name": "tiny"}, "num_frames": 1, "crop_size": 16},
    )  # fmt: skip
    image.execute(root)
    video = starting(stage, weights_of(root, image), "video", optim={"name": "sgd", "base_lr": 0.0})
    video.execute(root)
    assert "tensors taken" in capsys.readouterr().out
    given, found = (load_weights(weights_of(root, one)[0]).part("backbone") for one in (image, video))
    for axis in ("time", "space"):
        name = f"blocks.1.{axis}.attention.qkv.weight"
        assert torch.equal(found[name], given["blocks.1.space.attention.qkv.weight"])
    other = {"name": "timesformer", "num_frames": 4} | network | {"embed_dim": 16}
    wider = starting(stage, weights_of(root, image), "wider", backbone=other)
    with pytest.raises(StageError, match="belong to the backbone"):
        wider.execute(root)


@pytest.mark.parametrize(
    "config",
    [TimeSformerConfig(num_frames=2, image_size=32), ViViTConfig(num_frames=2, image_size=32)],
    ids=["timesformer", "vivit"],
)
def test_networks_of_the_published_size_take_a_step(config: Any) -> None:
    method = Supervised(build_backbone(config), 600, dropout=0.0, seed=0, drop_path=0.1)
    batch = {"streams": {"rgb": torch.zeros(2, 1, 3, 2, 32, 32).normal_()}, "labels": torch.tensor([0, 599])}
    loss, _ = method(batch, at(0, 2))
    loss.backward()
    assert loss.isfinite()
    assert not [name for name, p in method.named_parameters() if p.grad is None]


def test_maskfeat_of_the_published_size_takes_a_step() -> None:
    config = MViTBConfig(num_frames=4, image_size=64)
    method = MaskFeat.from_config(MaskFeatConfig(smallest_rectangle=2), config, global_batch_size=1, seed=0)
    loss, _ = method({"streams": {"rgb": torch.zeros(1, 1, 3, 4, 64, 64).normal_()}}, at(0, 2))
    loss.backward()
    assert loss.isfinite()
    assert method.mask_token.grad is not None
    assert method.mask_token.grad.any()
